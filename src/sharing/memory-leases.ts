import type { SharingMode } from '../config/config.ts'
import type { Claim, ClaimAnswer, Lease, Leases, Misfit, Patience, Waiter } from './leases.ts'
import { canShare } from './modes.ts'

/** How long who leaves is waited for: longer than a relay takes to see its upstream close. */
const LEAVING_MS = 8000

interface Held {
  readonly claim: Claim
  readonly sinceMs: number
  isLeaving: boolean
}

interface Waiting {
  claim: Claim
  readonly sinceMs: number
  /** Without patience it waits for nobody but those who leave. */
  readonly isPatient: boolean
  readonly answer: (answer: ClaimAnswer) => void
  readonly giveUp: () => void
}

/** Leases of one gateway, in its memory. */
export class MemoryLeases implements Leases {
  readonly #now: () => number
  /** By export, the oldest first. */
  readonly #held = new Map<string, Held[]>()
  readonly #exportOf = new Map<number, string>()
  readonly #waiting = new Map<string, Waiting[]>()
  #isDismissed = false

  constructor(now: () => number = Date.now) {
    this.#now = now
  }

  async acquire(claim: Claim, { ms, signal }: Patience): Promise<ClaimAnswer> {
    const answer = this.#take(claim, ms > 0)
    if (answer !== undefined) return answer
    const bound = ms > 0 ? ms : LEAVING_MS
    return new Promise(resolve => {
      const giveUp = (): void => {
        const late = this.#judge(waiting.claim)
        waiting.answer(late.kind === 'busy' ? late : this.#hold(waiting.claim, late))
      }
      const waiting: Waiting = {
        claim,
        sinceMs: this.#now(),
        isPatient: ms > 0,
        giveUp,
        answer: given => {
          clearTimeout(timer)
          signal.removeEventListener('abort', giveUp)
          drop(this.#waiting, claim.export, waiting)
          resolve(given)
        },
      }
      const timer = setTimeout(giveUp, bound)
      signal.addEventListener('abort', giveUp)
      add(this.#waiting, claim.export, waiting)
      if (signal.aborted || this.#isDismissed) giveUp()
    })
  }

  async begun(): Promise<void> {}

  restore(claim: Claim, sinceMs: number): void {
    this.#hold(claim, { kind: 'held', others: [] }, sinceMs)
  }

  async look(claim: Claim): Promise<ClaimAnswer> {
    return this.#judge(claim)
  }

  leaving(session: number): void {
    const held = this.#find(session)
    if (held !== undefined) held.isLeaving = true
  }

  release(session: number): void {
    const held = this.#find(session)
    if (held === undefined) return
    const name = held.claim.export
    drop(this.#held, name, held)
    this.#exportOf.delete(session)
    this.#admit(name)
  }

  dismiss(): void {
    this.#isDismissed = true
    for (const waiting of [...this.#waiting.values()].flat()) waiting.giveUp()
  }

  list(): readonly Lease[] {
    const all = [...this.#held.keys()].flatMap(name => this.#leasesOf(name))
    return all.toSorted((a, b) => a.sinceMs - b.sinceMs)
  }

  waiting(): readonly Waiter[] {
    const all = [...this.#waiting.values()].flat().map(({ claim, sinceMs }) => ({ claim, sinceMs }))
    return all.toSorted((a, b) => a.sinceMs - b.sinceMs)
  }

  adopt(modeOf: (name: string) => SharingMode | undefined): readonly Misfit[] {
    const misfits = [...this.#held.entries()].flatMap(([name, held]) => {
      const mode = modeOf(name)
      if (mode === undefined) return []
      const stay: Held[] = []
      const misfits: Misfit[] = []
      for (const each of held) {
        const adopted = { ...each, claim: { ...each.claim, mode } }
        const rival = stay.find(other => excludes(other, adopted.claim))
        if (rival === undefined) stay.push(adopted)
        else misfits.push({ session: each.claim.session, by: leaseOf(stay, rival.claim.holder) })
      }
      // Misfits hold on until they are gone; then whoever waits is judged by the new mode.
      for (const [index, each] of held.entries()) held[index] = { ...each, claim: { ...each.claim, mode } }
      for (const waiting of this.#waiting.get(name) ?? []) waiting.claim = { ...waiting.claim, mode }
      return misfits
    })
    for (const name of [...this.#waiting.keys()]) this.#admit(name)
    return misfits
  }

  async evict(): Promise<number> {
    return 0
  }

  async close(): Promise<void> {}

  /** Takes it if there is a place, says no if there will be none; undefined: it is worth waiting. */
  #take(claim: Claim, isPatient: boolean): ClaimAnswer | undefined {
    const answer = this.#judge(claim)
    if (answer.kind === 'held') return this.#hold(claim, answer)
    return isPatient || this.#isLeaving(claim) ? undefined : answer
  }

  #judge(claim: Claim): ClaimAnswer {
    const held = this.#held.get(claim.export) ?? []
    const rival = held.find(each => excludes(each, claim))
    if (rival !== undefined) return { kind: 'busy', by: leaseOf(held, rival.claim.holder) }
    const own = held.filter(each => each.claim.holder === claim.holder)
    return { kind: 'held', others: own.map(each => each.claim.session) }
  }

  #hold(claim: Claim, answer: ClaimAnswer, sinceMs = this.#now()): ClaimAnswer {
    add(this.#held, claim.export, { claim, sinceMs, isLeaving: false })
    this.#exportOf.set(claim.session, claim.export)
    return answer
  }

  #isLeaving(claim: Claim): boolean {
    const rivals = this.#held.get(claim.export)?.filter(each => excludes(each, claim)) ?? []
    return rivals.every(each => each.isLeaving)
  }

  /** Lets in who waits, the first to come first. */
  #admit(name: string): void {
    for (const waiting of [...(this.#waiting.get(name) ?? [])]) {
      const answer = this.#take(waiting.claim, waiting.isPatient)
      if (answer !== undefined) waiting.answer(answer)
    }
  }

  #find(session: number): Held | undefined {
    const name = this.#exportOf.get(session)
    return name === undefined ? undefined : this.#held.get(name)?.find(({ claim }) => claim.session === session)
  }

  #leasesOf(name: string): readonly Lease[] {
    const held = this.#held.get(name) ?? []
    return [...new Set(held.map(({ claim }) => claim.holder))].map(holder => leaseOf(held, holder))
  }
}

function excludes({ claim: { holder, access } }: Held, claim: Claim): boolean {
  return holder !== claim.holder && !canShare(claim.mode, access, claim.access)
}

function leaseOf(held: readonly Held[], holder: string): Lease {
  const own = held.filter(({ claim }) => claim.holder === holder)
  const [oldest] = own
  if (oldest === undefined) throw new TypeError('a lease without a session')
  const { export: name, mode, who, peer } = oldest.claim
  const access = own.some(({ claim }) => claim.access === 'write') ? 'write' : 'read'
  const sessions = own.map(({ claim }) => claim.session)
  return { export: name, mode, holder, who, peer, access, sinceMs: oldest.sinceMs, sessions }
}

function add<T>(lists: Map<string, T[]>, key: string, item: T): void {
  const list = lists.get(key)
  if (list === undefined) lists.set(key, [item])
  else list.push(item)
}

function drop<T>(lists: Map<string, T[]>, key: string, item: T): void {
  // An empty list stays: deleting from a large Map and adding again costs V8 more than all the rest.
  lists.set(
    key,
    (lists.get(key) ?? []).filter(each => each !== item),
  )
}
