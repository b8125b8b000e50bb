/**
 * Everything that is run for sessions: programs before and behind them, and servers that are started when they are needed. There
 * is one of these, in the main process; it has each preparation by its name, and finds those that a crash has left behind.
 */
import { statSync } from 'node:fs'
import type { OverlayFacts, OverlayRemoval } from '../admin/managed.ts'
import type { Config } from '../config/config.ts'
import type { Log } from '../observe/log.ts'
import { type Identity, keyOf, nameOf } from '../policy/identity.ts'
import { printable } from '../protocol/strings.ts'
import { askProgram } from './ask-program.ts'
import { PreparingError } from './errors.ts'
import { Ground, type Prepared } from './ground.ts'
import { hasServer, isTaken } from './leftover.ts'
import { isKnown, preparationId, safeName } from './names.ts'
import type { Values } from './placeholders.ts'
import { Preparation } from './preparation.ts'
import type { Guest, Preparing, Readied, Verdict } from './preparing.ts'
import type { PreparationRecord } from './records.ts'

/** How often it is looked for disks that are too old. */
const AGE_CHECK_MS = 60_000

export class Preparations implements Preparing {
  readonly #log: Log
  readonly #ground: Ground
  readonly #aging: NodeJS.Timeout
  readonly #entries = new Map<string, Preparation>()
  readonly #byConn = new Map<number, Preparation>()
  /** Those who have asked and not finished. */
  readonly #guests = new Set<number>()
  readonly #unreadable = new Set<string>()
  /** Called when there is no guest left. */
  #deserted: () => void = () => {}
  #closed: Promise<void> | undefined
  #exports = new Map<string, Prepared>()
  #keepMs: number | undefined

  /**
   * Makes folders in `state`, which survives a crash, and takes over what an earlier gateway has left there.
   * @throws the error of node:fs
   */
  constructor(state: string | undefined, log: Log) {
    this.#log = log
    this.#ground = new Ground(state, log)
    this.#aging = setInterval(() => this.#age(), AGE_CHECK_MS)
    this.#aging.unref()
    this.#recover()
  }

  /** Puts a configuration into force, for which it was opened. What it changes ends with its last user. */
  apply(config: Config): void {
    this.#exports = new Map(
      config.exports.flatMap(({ name, upstream, hooks }) =>
        hooks === undefined ? [] : [[name, { name, upstream, hooks }] as const],
      ),
    )
    this.#keepMs = config.overlays?.keepMs
    for (const entry of this.#entries.values()) {
      if (!entry.isStale && !entry.is(this.#exports.get(entry.name))) entry.outdate()
    }
    this.#age()
  }

  async authorize(name: string, guest: Guest, granted: Parameters<Preparing['authorize']>[2]): Promise<Verdict> {
    const of = this.#exports.get(name)
    // Gone since, by a reload.
    if (of === undefined) {
      return { kind: 'refused', reason: 'authorize', message: 'this export has just changed' }
    }
    if (of.hooks.authorize === undefined) return { kind: 'granted', rights: granted.rights }
    return await askProgram(this.#ground, of, guest, granted)
  }

  async prepare(name: string, guest: Guest): Promise<Readied> {
    const of = this.#exports.get(name)
    if (of === undefined || this.#ground.closing.aborted) {
      return { kind: 'down', problem: 'the export has just changed' }
    }
    const { conn } = guest
    const { identity } = guest.asker
    if (of.hooks.per === 'identity' && !isKnown(identity)) {
      return { kind: 'refused', reason: 'nobody known', message: 'this export is for those who say who they are' }
    }
    this.#guests.add(conn)
    const own = this.#byConn.get(conn)
    const entry = own ?? (await this.#entryFor(of, guest))
    if (!this.#guests.has(conn)) return { kind: 'down', problem: 'the visitor has gone' }
    const holder = keyOf(identity)
    if (of.hooks.per === 'identity' && entry.users.size > 0 && entry.holder !== holder) {
      const message = 'somebody of the same name, with another certificate, has this disk now'
      return { kind: 'refused', reason: 'busy', message }
    }
    entry.users.add(conn)
    entry.holder = holder
    this.#byConn.set(conn, entry)
    try {
      return { kind: 'ready', upstream: await entry.ready(own !== undefined) }
    } catch (error) {
      if (!(error instanceof PreparingError)) throw error
      // Somebody else has left in that moment.
      if (error.code === 'UNWANTED' && this.#guests.has(conn)) return await this.prepare(name, guest)
      return this.#refuse(error, entry)
    }
  }

  /**
   * The same for a visitor of another process, which takes this one's place: only what is in use here, for it can not be there
   * twice. What nobody uses is given up, and undefined.
   */
  async prepareKnown(name: string, guest: Guest): Promise<Readied | undefined> {
    const { conn, asker } = guest
    this.#guests.add(conn)
    const of = this.#exports.get(name)
    const isInUse =
      this.#closed === undefined &&
      of !== undefined &&
      (this.#byConn.has(conn) || (of.hooks.per !== 'connection' && (await this.#isUsed(idOf(of, asker.identity)))))
    if (!this.#guests.has(conn)) return { kind: 'down', problem: 'the visitor has gone' }
    if (isInUse) return await this.prepare(name, guest)
    this.finish(conn)
    await this.#closed
    return undefined
  }

  finish(conn: number): void {
    this.#guests.delete(conn)
    const entry = this.#byConn.get(conn)
    this.#byConn.delete(conn)
    entry?.leave(conn)
    if (this.#guests.size === 0) this.#deserted()
  }

  /** What is prepared, the oldest first. */
  list(): readonly OverlayFacts[] {
    this.#recover()
    const found = [...this.#entries.values()].flatMap(entry => {
      const { record } = entry
      return record === undefined ? [] : [overlayOf(entry, record)]
    })
    return found.toSorted((a, b) => a.since.localeCompare(b.since))
  }

  /** Takes one apart that nobody uses; resolves when nothing of it is left. */
  async remove(id: string): Promise<OverlayRemoval> {
    this.#recover()
    const found = this.#entries.get(id)
    if (found === undefined) return 'unknown'
    // It may be looked at just now whether it is to stay.
    await found.ending
    const entry = this.#entries.get(id)
    if (entry === undefined) return 'removed'
    if (entry.users.size > 0) return 'in use'
    return (await entry.end()) ? 'removed' : 'in use'
  }

  /** Whether one ages; false if there is none. @throws the error of node:fs */
  keep(id: string, isKept: boolean): boolean {
    this.#recover()
    return this.#entries.get(id)?.keep(isKept) === true
  }

  /** Nobody is let in any more: what is made ready for newcomers is given up. */
  dismiss(): void {
    this.#ground.drain()
  }

  /** Nothing is begun any more. Its sessions are about to end. */
  stop(): void {
    this.#ground.close()
  }

  /** Ends what runs, and takes apart what does not survive a restart. Its sessions have ended. Never rejects. */
  async close(): Promise<void> {
    this.#closed ??= this.#close()
    await this.#closed
  }

  /** The same, once nobody uses anything any more: another process goes on, whose sessions may be here. Never rejects. */
  async leave(): Promise<void> {
    while (this.#guests.size > 0) {
      await new Promise<void>(resolve => {
        this.#deserted = resolve
      })
    }
    await this.close()
  }

  async #close(): Promise<void> {
    clearInterval(this.#aging)
    this.#ground.close()
    const ends = [...this.#entries.values()].map(async entry => {
      if (entry.record?.per === 'identity' && entry.record.phase === 'ready') await entry.rest()
      else await entry.end()
    })
    await Promise.all(ends)
    this.#ground.leave()
  }

  /** Whether somebody uses it. What nobody does is put down, so that another process can take it up. */
  async #isUsed(id: string): Promise<boolean> {
    for (let entry = this.#entries.get(id); entry !== undefined; entry = this.#entries.get(id)) {
      if (entry.users.size > 0) return true
      if (entry.ending !== undefined) await entry.ending
      else if (entry.record?.per === 'identity') await entry.rest()
      else await entry.end()
      if (entry.users.size === 0 && entry.ending === undefined && this.#entries.get(id) === entry)
        this.#entries.delete(id)
    }
    return false
  }

  async #entryFor(of: Prepared, { conn, asker }: Guest): Promise<Preparation> {
    const { identity } = asker
    const ground = this.#ground
    const id = idOf(of, identity)
    const who = nameOf(identity)
    const values: Values = {
      export: safeName(of.name),
      identity: of.hooks.per === 'export' ? '' : safeName(who),
      id,
      overlay: ground.overlayOf(id),
      socket: ground.socketOf(id),
    }
    for (let known = this.#entries.get(id); known !== undefined; known = this.#entries.get(id)) {
      if (known.ending === undefined && known.isStale && known.users.size === 0) await known.rest()
      if (known.ending !== undefined) {
        await known.ending
        continue
      }
      if (known.isStale && known.users.size === 0) known.adopt(of, values)
      return known
    }
    const backoffName = of.hooks.per === 'connection' ? `${of.name} ${keyOf(identity)}` : id
    const told = of.hooks.per === 'export' ? `export ${printable(of.name)}` : who
    const ended = (): void => void this.#entries.delete(id)
    const entry = new Preparation({ ground, id, who: told, values, of, backoffName, ended })
    if (this.#guests.has(conn)) this.#entries.set(id, entry)
    return entry
  }

  #refuse(error: PreparingError, entry: Preparation): Readied {
    if (error.code === 'SPAWN' || error.code === 'UNWANTED') return { kind: 'down', problem: error.message }
    if (error.code === 'LOCKED') {
      return { kind: 'refused', reason: 'busy', message: 'another gateway process has this disk now' }
    }
    // What was begun is undone.
    void entry.end()
    for (const conn of entry.users) this.#byConn.delete(conn)
    entry.users.clear()
    if (error.code === 'STATE') {
      return { kind: 'refused', reason: 'state', message: 'this gateway can not make the export ready now' }
    }
    return { kind: 'refused', reason: 'prepare', message: 'the export could not be made ready for you' }
  }

  /** What a gateway that has gone has left: its servers are ended, what does not survive is cleaned up, the rest is ours. */
  #recover(): void {
    const ground = this.#ground
    if (ground.closing.aborted) return
    const bad = (file: string): void => {
      if (!this.#unreadable.has(file)) this.#log.error({ file }, 'a record can not be read')
      this.#unreadable.add(file)
    }
    for (const record of ground.records.all(bad)) {
      if (this.#entries.has(record.id) || isTaken(record)) continue
      const { id, per, phase } = record
      const entry = Preparation.found(ground, record, () => void this.#entries.delete(id))
      this.#entries.set(id, entry)
      const isOver = per !== 'identity' || phase !== 'ready'
      if (!isOver && !hasServer(record)) continue
      const { export: name, who } = record
      const facts = { export: printable(name), id, who, phase, isOver, hasServer: hasServer(record) }
      this.#log.info(facts, 'left behind')
      void entry.settle()
    }
  }

  #age(): void {
    this.#recover()
    if (this.#keepMs === undefined) return
    const oldest = Date.now() - this.#keepMs
    for (const entry of this.#entries.values()) {
      const { record } = entry
      if (record === undefined || record.per !== 'identity' || record.isKept) continue
      if (entry.users.size > 0 || record.usedMs > oldest || entry.ending !== undefined) continue
      const { export: name, id, who, usedMs } = record
      this.#log.info({ export: printable(name), id, who, used: new Date(usedMs).toISOString() }, 'overlay too old')
      void entry.end()
    }
  }
}

function idOf({ name, hooks }: Prepared, identity: Identity): string {
  return preparationId({ export: name, per: hooks.per, identity })
}

function overlayOf(entry: Preparation, record: PreparationRecord): OverlayFacts {
  const { id, export: name, who, per, createdMs, usedMs, isKept, overlay } = record
  const used = new Date(entry.users.size > 0 ? Date.now() : usedMs).toISOString()
  const since = new Date(createdMs).toISOString()
  const sessions = [...entry.users].toSorted((a, b) => a - b)
  const bytes = sizeOf(overlay)
  return {
    id,
    export: printable(name),
    who,
    per,
    since,
    used,
    kept: isKept,
    sessions,
    overlay,
    bytes,
    pid: entry.serverPid,
  }
}

/** What a file takes on its disk; undefined if it is none, or is not there. */
function sizeOf(path: string): number | undefined {
  const stats = statSync(path, { throwIfNoEntry: false })
  return stats?.isFile() === true ? stats.blocks * 512 : undefined
}
