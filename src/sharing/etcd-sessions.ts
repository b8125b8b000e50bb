import type { HoldRecord } from './etcd-records.ts'
import type { Life } from './etcd-store.ts'
import type { Claim } from './leases.ts'

/** What etcd knows of a session. */
export interface Known {
  readonly claim: Claim
  readonly sinceMs: number
  readonly life: Life
  readonly epoch: number
  /** Its key has gone: it has to end. */
  isLost: boolean
}

/** The sessions of this gateway that have leases in etcd. */
export class KnownSessions {
  readonly #all = new Map<number, Known>()
  readonly #ofExport = new Map<string, Set<Known>>()

  has(session: number): boolean {
    return this.#all.has(session)
  }

  add(claim: Claim, life: Life, epoch: number): Known {
    const known = { claim, life, epoch, sinceMs: Date.now(), isLost: false }
    this.#all.set(claim.session, known)
    const all = this.#ofExport.get(claim.export) ?? new Set()
    this.#ofExport.set(claim.export, all.add(known))
    return known
  }

  remove(session: number): Known | undefined {
    const known = this.#all.get(session)
    if (known === undefined) return undefined
    this.#all.delete(session)
    const all = this.#ofExport.get(known.claim.export)
    all?.delete(known)
    if (all?.size === 0) this.#ofExport.delete(known.claim.export)
    return known
  }

  /** All of an export, the lost ones too. */
  of(name: string): readonly Known[] {
    return [...(this.#ofExport.get(name) ?? [])]
  }

  /** Those of an export whose leases hold. */
  holding(name: string, life: Life): readonly Known[] {
    return this.of(name).filter(each => each.life === life && !each.isLost)
  }

  /** Whether any session of a life is left. */
  hasAny(life: Life): boolean {
    return [...this.#all.values()].some(known => known.life === life)
  }
}

/** What is written of an export: one entry for each holder. */
export function holdsOf(all: readonly Pick<Known, 'claim' | 'sinceMs'>[]): HoldRecord[] {
  const holds = new Map<string, HoldRecord>()
  for (const { claim, sinceMs } of all) {
    const { holder, who, peer, mode, access } = claim
    const known = holds.get(holder)
    if (known === undefined) holds.set(holder, { holder, who, peer, mode, access, sinceMs })
    else if (access === 'write') holds.set(holder, { ...known, access })
  }
  return [...holds.values()]
}
