import type { StandingConfig } from '../config/config.ts'
import type { Rights } from '../policy/identity.ts'
import type { Guest, Preparing, Readied, Verdict } from '../preparing/preparing.ts'
import { UpstreamError } from '../upstreams/errors.ts'
import type { Granted } from './control.ts'

/** What one session has asked of the operator's programs, and what was made ready for it. */
export class SessionPreparing {
  readonly #preparing: Preparing
  readonly #conn: number
  /** A program is asked once. */
  readonly #verdicts = new Map<string, Verdict>()
  #prepared: string | undefined

  constructor(preparing: Preparing, conn: number) {
    this.#preparing = preparing
    this.#conn = conn
  }

  /** What the export's own program leaves of what is granted; undefined where there is none. */
  async verdict(name: string, { hooks, rights, rule }: Granted, guest: Guest): Promise<Verdict | undefined> {
    if (hooks?.authorize !== true) return undefined
    const known = this.#verdicts.get(name)
    const verdict = known ?? (await this.#preparing.authorize(name, guest, { rights, rule }))
    this.#verdicts.set(name, verdict)
    return verdict
  }

  /** What the program has left. */
  most(name: string): Rights | undefined {
    const verdict = this.#verdicts.get(name)
    return verdict?.kind === 'granted' ? verdict.rights : undefined
  }

  /**
   * What is to be dialled: the upstream itself, or what is made ready now; asked again, what works now.
   * @throws UpstreamError DIAL if that does not come up
   */
  async upstream(
    name: string,
    { upstream, hooks }: Granted,
    guest: Guest,
  ): Promise<StandingConfig | Extract<Readied, { kind: 'refused' }>> {
    if (hooks?.prepare !== true && upstream.kind !== 'spawn' && upstream.kind !== 'overlay') return upstream
    if (this.#prepared !== name) this.finish()
    this.#prepared = name
    const readied = await this.#preparing.prepare(name, guest)
    if (readied.kind === 'ready') return readied.upstream
    if (readied.kind === 'refused') return readied
    throw new UpstreamError('DIAL', readied.problem)
  }

  /** Nothing that was made ready is needed any more. */
  finish(): void {
    if (this.#prepared !== undefined) this.#preparing.finish(this.#conn)
    this.#prepared = undefined
  }

  /** The visitor is somebody else than was known. */
  forget(): void {
    this.finish()
    this.#verdicts.clear()
  }
}
