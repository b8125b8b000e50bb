import { existsSync } from 'node:fs'
import { join } from 'node:path'
import type { OverlayFacts, OverlayRemoval } from '../admin/managed.ts'
import type { Config, ExportConfig } from '../config/config.ts'
import type { Log } from '../observe/log.ts'
import type { Preparations } from '../preparing/preparations.ts'
import type { Guest, Preparing, Readied, Verdict } from '../preparing/preparing.ts'

/** Where preparations are written down, in the state folder. */
const RECORDS = 'preparations'

/** Runs programs for sessions where the configuration says so; nothing of it is loaded where it does not. */
export class PreparingKeeper implements Preparing {
  readonly #state: string | undefined
  readonly #log: Log
  #preparations: Preparations | undefined

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

  /**
   * Why another process can not go on with it; undefined: it can. Servers are this process's children, and who takes a disk apart
   * has to know who is on it. What `authorize` says is said, and nothing is left of it.
   */
  bound({ exports }: Config): string | undefined {
    const isPrepared = ({ hooks, upstream }: ExportConfig): boolean =>
      hooks?.prepare !== undefined ||
      hooks?.cleanup !== undefined ||
      upstream.kind === 'spawn' ||
      upstream.kind === 'overlay'
    if (exports.some(isPrepared)) return 'an export has prepare, cleanup or spawn'
    return this.#preparations?.isEmpty === false ? 'what was prepared for sessions is still there' : undefined
  }

  async authorize(name: string, guest: Guest, granted: Parameters<Preparing['authorize']>[2]): Promise<Verdict> {
    const refused = { kind: 'refused', reason: 'authorize', message: 'this export has just changed' } as const
    return (await this.#preparations?.authorize(name, guest, granted)) ?? refused
  }

  async prepare(name: string, guest: Guest): Promise<Readied> {
    return (await this.#preparations?.prepare(name, guest)) ?? { kind: 'down', problem: 'the export has just changed' }
  }

  finish(conn: number): void {
    this.#preparations?.finish(conn)
  }

  /** What is prepared, the oldest first. */
  list(): readonly OverlayFacts[] {
    return this.#preparations?.list() ?? []
  }

  /** Takes one apart that nobody uses; resolves when nothing of it is left. */
  async remove(id: string): Promise<OverlayRemoval> {
    return (await this.#preparations?.remove(id)) ?? 'unknown'
  }

  /** Whether one ages; false if there is none. @throws the error of node:fs */
  keep(id: string, isKept: boolean): boolean {
    return this.#preparations?.keep(id, isKept) ?? false
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
}
