/** One visitor's view of the exports while the handshake haggles: who it is, what it may have, what was refused. */
import type { Visitor } from '../doors/door.ts'
import type { Host, ListEntry, Refusal, Wants } from '../negotiation/host.ts'
import type { DoorKind, Identity } from '../policy/identity.ts'
import { nameOf } from '../policy/identity.ts'
import { Rep } from '../protocol/constants.ts'
import { printable } from '../protocol/strings.ts'
import { Wire } from '../stream/wire.ts'
import { UpstreamError } from '../upstreams/errors.ts'
import type { SessionContext } from './context.ts'
import type { Asker } from './control.ts'
import { type OpenExport, openExport } from './open-export.ts'

export class SessionHost implements Host<OpenExport> {
  readonly #visitor: Visitor
  readonly #context: SessionContext
  #identity: Identity
  #door: DoorKind
  #cipher: string | undefined
  #opened: OpenExport | undefined
  #acquired: string | undefined

  constructor(visitor: Visitor, context: SessionContext) {
    this.#visitor = visitor
    this.#context = context
    this.#identity = visitor.identity
    this.#door = visitor.door
  }

  get tls(): 'none' | 'forced' | 'selective' {
    return this.#visitor.tls?.mode ?? 'none'
  }

  /** Who the visitor is, as far as is known by now, for logs. */
  get who(): string {
    return nameOf(this.#identity)
  }

  /** Facts for logs that come with TLS. */
  get facts(): Record<string, unknown> {
    const { certificate } = this.#identity
    return {
      door: this.#door,
      ...(this.#cipher === undefined ? {} : { cipher: this.#cipher }),
      ...(certificate === undefined ? {} : { serial: certificate.serial, fingerprint: certificate.fingerprint }),
    }
  }

  async list(): Promise<readonly ListEntry[]> {
    return this.#context.control.visible(this.#asker)
  }

  async open(name: string, wants: Wants): Promise<OpenExport | Refusal> {
    const { control, log } = this.#context
    if (this.#context.isDraining()) return refusal(Rep.ERR_SHUTDOWN, 'the gateway is shutting down')
    const ruling = await control.decide(name, this.#asker)
    if (ruling.kind === 'refused') {
      const facts = { export: printable(name), reason: ruling.reason, rule: ruling.rule }
      log.warn({ ...this.#base, ...facts }, 'refused')
      return refusal(Rep.ERR_UNKNOWN, 'no such export for you')
    }
    if (wants.enter && !(await control.acquire(name))) {
      log.warn({ ...this.#base, export: printable(name), reason: 'limits.sessions', rule: ruling.rule }, 'refused')
      return refusal(Rep.ERR_POLICY, 'this export has as many sessions as it may')
    }
    if (wants.enter) this.#acquired = name
    if (this.#reusable(name, wants)) return this.#opened as OpenExport
    this.#forget()
    try {
      const { description, upstream, rights, rule } = ruling
      const { structuredReplies } = wants
      this.#opened = await this.#context.dials.run(upstream, () =>
        openExport({ name, description, upstream, rights, rule, structuredReplies }),
      )
      return this.#opened
    } catch (error) {
      if (!(error instanceof UpstreamError)) throw error
      if (wants.enter) this.#releaseExport()
      log.error({ ...this.#base, export: printable(name), code: error.code, err: error }, 'upstream failed')
      return refusal(Rep.ERR_PLATFORM, 'the server behind this export can not be used now; its operator can see why')
    }
  }

  async secure(): Promise<Wire> {
    const { tls, stream } = this.#visitor
    if (tls === undefined) throw new TypeError('STARTTLS at a door without TLS')
    const secured = await tls.upgrade(stream)
    this.#context.secured(secured.stream)
    this.#door = 'tls'
    this.#cipher = secured.cipher
    const { certificate, psk } = secured
    this.#identity = {
      ...this.#identity,
      ...(certificate === undefined ? {} : { certificate }),
      ...(psk === undefined ? {} : { psk }),
    }
    this.#forget()
    return new Wire(secured.stream, this.#context.limits.negotiationMs)
  }

  /** Closes what was opened and gives back what was taken; nothing can be opened afterwards. */
  close(): void {
    this.#forget()
    this.#releaseExport()
  }

  get #asker(): Asker {
    return { identity: this.#identity, door: this.#door }
  }

  get #base(): Record<string, unknown> {
    return { conn: this.#context.conn, peer: this.#visitor.peer, who: this.who, door: this.#door }
  }

  /** GO after INFO uses the connection that INFO made: an upstream may count its connections. */
  #reusable(name: string, wants: Wants): boolean {
    return this.#opened?.name === name && this.#opened.structured.client === wants.structuredReplies
  }

  #forget(): void {
    this.#opened?.stream.destroy()
    this.#opened = undefined
  }

  #releaseExport(): void {
    if (this.#acquired !== undefined) this.#context.control.release(this.#acquired)
    this.#acquired = undefined
  }
}

function refusal(reply: Rep, message: string): Refusal {
  return { kind: 'refused', reply, message }
}
