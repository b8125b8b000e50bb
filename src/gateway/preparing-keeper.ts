import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { OverlayFacts, OverlayRemoval } from '../admin/managed.ts'
import type { Config } from '../config/config.ts'
import type { Log } from '../observe/log.ts'
import type { Preparations } from '../preparing/preparations.ts'
import type { Guest, Legacy, Overlays, Preparing, Readied, Verdict } from '../preparing/preparing.ts'

/** Where preparations are written down, in the state folder. */
const RECORDS = 'preparations'

/** Runs programs for sessions where the configuration says so; nothing of it is loaded where it does not. */
export class PreparingKeeper implements Preparing, Overlays {
  readonly #state: string | undefined
  readonly #log: Log
  #preparations: Preparations | undefined
  /** The process before this one. */
  #legacy: Legacy | undefined
  /** Those for whom that one is asked just now. */
  readonly #asking = new Set<number>()

  /** `state`: the folder that survives a crash. */
  constructor(state: string | undefined, log: Log) {
    this.#state = state
    this.#log = log
  }

  /** Makes ready what a configuration needs, and takes over what an earlier gateway has left. Rejects with the error of node:fs. */
  async open({ exports }: Config): Promise<void> {
    if (this.#preparations !== undefined) return
    const isNeeded = exports.some(({ hooks }) => hooks !== undefined)
    if (!isNeeded && !(this.#state !== undefined && existsSync(join(this.#state, RECORDS)))) return
    const { Preparations } = await import('../preparing/preparations.ts')
    this.#preparations = new Preparations(this.#state, this.#log)
  }

  /** Puts a configuration into force, for which it was opened. */
  apply(config: Config): void {
    this.#preparations?.apply(config)
  }

  /** This process goes on with what another one has, as long as that one lives. */
  succeed(legacy: Legacy): void {
    this.#legacy = legacy
    void legacy.gone.then(() => {
      if (this.#legacy === legacy) this.#legacy = undefined
    })
  }

  async authorize(name: string, guest: Guest, granted: Parameters<Preparing['authorize']>[2]): Promise<Verdict> {
    const refused = { kind: 'refused', reason: 'authorize', message: 'this export has just changed' } as const
    return (await this.#preparations?.authorize(name, guest, granted)) ?? refused
  }

  async prepare(name: string, guest: Guest): Promise<Readied> {
    const known = await this.#prepareThere(name, guest)
    if (known !== undefined) return known
    return (await this.#preparations?.prepare(name, guest)) ?? { kind: 'down', problem: 'the export has just changed' }
  }

  /** As Legacy has it: what is known here, or to the process before this one. */
  async prepareKnown(name: string, guest: Guest): Promise<Readied | undefined> {
    return (await this.#preparations?.prepareKnown(name, guest)) ?? (await this.#legacy?.prepareKnown(name, guest))
  }

  finish(conn: number): void {
    this.#asking.delete(conn)
    this.#preparations?.finish(conn)
    this.#legacy?.finish(conn)
  }

  async list(): Promise<readonly OverlayFacts[]> {
    const before = (await this.#legacy?.overlays.list()) ?? []
    const own = this.#preparations?.list() ?? []
    const ids = new Set(own.map(({ id }) => id))
    return [...before.filter(({ id }) => !ids.has(id)), ...own].toSorted((a, b) => a.since.localeCompare(b.since))
  }

  async remove(id: string): Promise<OverlayRemoval> {
    const removal = (await this.#preparations?.remove(id)) ?? 'unknown'
    return removal === 'unknown' ? ((await this.#legacy?.overlays.remove(id)) ?? 'unknown') : removal
  }

  async keep(id: string, isKept: boolean): Promise<boolean> {
    if (this.#preparations?.keep(id, isKept) === true) return true
    return (await this.#legacy?.overlays.keep(id, isKept)) ?? false
  }

  /** Nobody is let in any more: what is made ready for newcomers is given up. */
  dismiss(): void {
    this.#preparations?.dismiss()
  }

  /** Nothing is begun any more: the sessions are about to end. */
  stop(): void {
    this.#preparations?.stop()
  }

  /** The sessions have ended: ends what runs, and takes apart what does not survive a restart. Never rejects. */
  async close(): Promise<void> {
    await this.#preparations?.close()
  }

  /** Another process goes on: the same, once nobody uses anything that is here, or that the process before this one has. Never rejects. */
  async leave(): Promise<void> {
    await this.#preparations?.leave()
    await this.#legacy?.gone
  }

  async #prepareThere(name: string, guest: Guest): Promise<Readied | undefined> {
    if (this.#legacy === undefined) return undefined
    this.#asking.add(guest.conn)
    const known = await this.#legacy.prepareKnown(name, guest)
    return this.#asking.delete(guest.conn) ? known : { kind: 'down', problem: 'the visitor has gone' }
  }
}
