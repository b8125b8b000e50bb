/** One visitor's view of the exports while the handshake haggles: who it is, what it may have, what was refused. */
import type { SessionExplanation } from '../admin/managed.ts'
import type { BackendConfig } from '../config/config.ts'
import type { Secured, Visitor } from '../doors/door.ts'
import type { TlsErrorReason } from '../doors/errors.ts'
import { OptionRefused } from '../negotiation/client.ts'
import { type Host, isRefusal, type ListEntry, type Refusal, type Wants } from '../negotiation/host.ts'
import { AuditError } from '../observe/errors.ts'
import type { DoorKind, Identity, Rights } from '../policy/identity.ts'
import { nameOf } from '../policy/identity.ts'
import { Rep } from '../protocol/constants.ts'
import { printable } from '../protocol/strings.ts'
import { commonMs } from '../relay/keep.ts'
import type { RangeGuard } from '../relay/requests.ts'
import { Throttle } from '../relay/throttle.ts'
import type { Fence } from '../sharing/fence.ts'
import { Wire } from '../stream/wire.ts'
import { UpstreamError } from '../upstreams/errors.ts'
import type { SessionContext } from './context.ts'
import type { Asker, Granted, Place, Visit } from './control.ts'
import { bidFarewell, phaseOf } from './farewell.ts'
import { checkLuks } from './luks-check.ts'
import { offenceOfRefusal } from './offences.ts'
import { openBy } from './open-by.ts'
import { cutSizes, fitsSizes, type OpenExport, selectedOf } from './open-export.ts'
import type { Rate } from './rates.ts'
import { refusal, shuttingDown } from './refusals.ts'
import { type RefusedSession, SessionAudit } from './session-audit.ts'
import { SessionPreparing } from './session-preparing.ts'
import { by, lossOf, type Standing } from './standing.ts'
import { identityFacts, proxiedClient } from './visitor-facts.ts'
import { besideOthers, type Dialled, WayBack, type WayBackOptions } from './way-back.ts'

type Taken = Extract<Place, { kind: 'taken' }>

export class SessionHost implements Host<OpenExport> {
  /** What holds back the requests of the session. */
  readonly throttle = new Throttle()
  readonly #visitor: Visitor
  readonly #context: SessionContext
  /** What the audit trail says of this visitor. */
  readonly audit: SessionAudit
  #identity: Identity
  #door: DoorKind
  #cipher: string | undefined
  #opened: OpenExport | undefined
  /** What `#opened` was opened with. */
  #upstream: BackendConfig | undefined
  #dialled: Dialled | undefined
  #canMultiply = true
  readonly #programs: SessionPreparing
  #acquired: { readonly name: string; readonly visit: Visit; readonly place: Taken } | undefined
  #guard: { readonly name: string; readonly guard: RangeGuard } | undefined
  #fence: Fence | undefined
  #secured: Secured | undefined
  #rates: readonly Rate[] = []

  constructor(visitor: Visitor, context: SessionContext) {
    this.#visitor = visitor
    this.#context = context
    this.audit = new SessionAudit(context.audit, context.conn, visitor)
    this.#programs = new SessionPreparing(context.preparing, context.conn)
    this.#identity = visitor.identity
    this.#door = visitor.door
  }

  get tls(): 'none' | 'forced' | 'selective' {
    return this.#visitor.tls?.mode ?? 'none'
  }

  /** How the visitor came in: TLS once it is up. */
  get door(): DoorKind {
    return this.#door
  }

  /** Who the visitor is, as far as is known by now, for logs. */
  get who(): string {
    return nameOf(this.#identity)
  }

  /** What the lease is that the session has: none for who may only look on. */
  get lease(): Rights | 'none' {
    return this.#acquired?.place.lease ?? 'none'
  }

  /** What ends with the lease. */
  get fence(): Fence | undefined {
    return this.#fence
  }

  /** What watches over the LUKS header. */
  get guard(): RangeGuard | undefined {
    return this.#guard?.guard
  }

  /** Facts for logs that come with TLS. */
  get facts(): Record<string, unknown> {
    return {
      door: this.#door,
      ...(this.#acquired?.place.epoch === undefined ? {} : { epoch: this.#acquired.place.epoch }),
      ...(this.#cipher === undefined ? {} : { cipher: this.#cipher }),
      ...identityFacts(this.#identity),
    }
  }

  isShuttingDown(): boolean {
    return this.#context.isDraining()
  }

  async list(): Promise<readonly ListEntry[]> {
    const visible = await this.#context.control.visible(this.#asker)
    const { only } = this.#visitor
    return only === undefined ? visible : visible.filter(({ name }) => name === only)
  }

  async open(asked: string, wants: Wants): Promise<OpenExport | Refusal> {
    const { control, log } = this.#context
    const { only } = this.#visitor
    const name = asked === '' && only !== undefined ? only : asked
    if (this.#context.isDraining()) return shuttingDown()
    const decided = await control.decide(name, this.#asker)
    if (only !== undefined && name !== only) {
      this.refused({ export: name, reason: 'another export' })
      return refusal(Rep.ERR_UNKNOWN, 'no such export for you')
    }
    if (decided.kind === 'refused') {
      this.refused({ export: name, reason: decided.reason, rule: decided.rule })
      return refusal(Rep.ERR_UNKNOWN, 'no such export for you')
    }
    const verdict = await this.#programs.verdict(name, decided, this.#visit)
    if (verdict?.kind === 'refused' && this.#context.isDraining()) return shuttingDown()
    if (verdict?.kind === 'refused') {
      this.refused({ export: name, reason: verdict.reason, rule: decided.rule })
      return refusal(Rep.ERR_POLICY, verdict.message)
    }
    const ruling = verdict === undefined ? decided : { ...decided, rights: verdict.rights }
    const place = wants.enter ? await this.#enter(name, ruling, wants.gone) : await this.#look(name, ruling)
    // It may have waited.
    if (this.#context.isDraining()) {
      this.#leave()
      return shuttingDown()
    }
    if (place.kind === 'refused') {
      const { reason, message, by } = place
      this.refused({ export: name, reason, rule: ruling.rule, ...(by !== undefined && { holder: by.who }) })
      return refusal(reason === 'leases' ? Rep.ERR_PLATFORM : Rep.ERR_POLICY, message)
    }
    const granted = { ...ruling, rights: place.rights }
    try {
      // Nor can somebody whose next connection finds something else behind the export, or whose writes may be made again
      // over what another connection has written and flushed since.
      const isOneOfMany = granted.upstream.kind === 'ways' || granted.outage.replayBytes > 0 || granted.align
      const isAlone = ruling.hooks?.isAlone === true || isOneOfMany
      const canMultiply = place.lease !== undefined && !isAlone
      const opened =
        this.#reusable(name, granted, wants, canMultiply) ?? (await this.#dial(name, granted, wants, canMultiply))
      if (isRefusal(opened)) return opened
      const refused = wants.enter ? await this.#checkLuks(opened, granted) : undefined
      return refused ?? (await this.#written(opened, wants))
    } catch (error) {
      if (!(error instanceof UpstreamError)) throw error
      this.#forget()
      if (wants.enter) this.#leave()
      const { cause } = error
      if (cause instanceof OptionRefused && cause.reply === Rep.ERR_BLOCK_SIZE_REQD && !wants.blockSize) {
        const wanted = cause.blockSize && cutSizes(cause.blockSize)
        return { ...refusal(Rep.ERR_BLOCK_SIZE_REQD, 'ask for block sizes and keep to them'), blockSize: wanted }
      }
      this.audit.refused(this.#asker, { export: name, reason: 'upstream failed', rule: ruling.rule, code: error.code })
      log.error({ ...this.#base, export: printable(name), code: error.code, err: error }, 'upstream failed')
      return refusal(Rep.ERR_PLATFORM, 'the server behind this export can not be used now; its operator can see why')
    }
  }

  /** Says no in the log and in the audit trail; the visitor is answered by others. */
  refused(no: RefusedSession & { readonly export: string }): void {
    this.#context.log.warn({ ...this.#base, ...no, export: printable(no.export) }, 'refused')
    // INFO and GO for the same name are one attempt: nbdinfo asks three times.
    if (this.audit.refused(this.#asker, no)) this.#context.charge(offenceOfRefusal(no.reason))
  }

  /** TLS has turned the visitor down: whoever it was. What scanners do is no attempt to come in. */
  turnedDown(reason: TlsErrorReason): void {
    if (reason === 'handshake failed' || reason === 'handshake timeout' || reason === 'gone') return
    this.audit.refused(this.#asker, { reason: `tls: ${reason}` })
  }

  async secure(): Promise<Wire> {
    const { tls } = this.#visitor
    if (tls === undefined) throw new TypeError('STARTTLS at a door without TLS')
    const secured = await tls.upgrade()
    this.#context.secured(secured.stream)
    this.#secured = secured
    this.#door = 'tls'
    this.#cipher = secured.cipher
    const { certificate, psk } = secured
    this.#identity = {
      ...this.#identity,
      ...(certificate === undefined ? {} : { certificate }),
      ...(psk === undefined ? {} : { psk }),
    }
    this.#forget()
    this.#programs.forget()
    return new Wire(secured.stream, this.#context.limits.negotiationMs)
  }

  /**
   * Holds what was granted against what is granted now, by the same decision. Rights that have grown are left as they
   * are: the client was told of less.
   */
  async recheck(): Promise<Standing> {
    const opened = this.#opened
    if (opened === undefined) return { kind: 'holds', untilMs: undefined }
    const distrust = this.#secured?.recheck()
    if (distrust !== undefined) {
      return { kind: 'gone', why: `${this.#identity.psk === undefined ? 'certificate' : 'psk'}: ${distrust}` }
    }
    const refused = this.#visitor.recheck?.()
    if (refused !== undefined) return { kind: 'gone', why: `login: ${refused}` }
    const ruling = await this.#context.control.decide(opened.name, this.#asker)
    if (ruling.kind === 'refused') return { kind: 'gone', why: `${ruling.reason}${by(ruling.rule)}` }
    const loss = lossOf(opened, ruling)
    if (loss !== undefined) return { kind: 'gone', why: loss }
    this.#limit(ruling.rates)
    const untilMs = Math.min(ruling.untilMs ?? Infinity, this.#identity.certificate?.notAfterMs ?? Infinity)
    return { kind: 'holds', untilMs: Number.isFinite(untilMs) ? untilMs : undefined }
  }

  /** What the rules say of this visitor and its export now; undefined while it has none. */
  async explain(): Promise<SessionExplanation | undefined> {
    return this.#opened === undefined ? undefined : await this.#context.control.explain(this.#opened.name, this.#asker)
  }

  /** How the session gets its upstream back; undefined: nothing is open. */
  get wayBack(): WayBack | undefined {
    const [opened, dialled, fence, asker] = [this.#opened, this.#dialled, this.#fence, this.#asker]
    if (opened === undefined || dialled === undefined) return undefined
    const { control, dials } = this.#context
    const find: WayBackOptions['find'] = ruling => this.#programs.upstream(opened.name, ruling, this.#visit)
    return new WayBack({ ...dialled, opened, fence, asker, control, dials, find })
  }

  /** Nobody enters an export unless the audit trail has it. */
  async #written(opened: OpenExport, wants: Wants): Promise<OpenExport | Refusal> {
    const { name, rights, rule } = opened
    try {
      if (wants.enter) await this.audit.open(this.#asker, { export: name, rights, lease: this.lease, rule })
      return opened
    } catch (error) {
      if (!(error instanceof AuditError)) throw error
      this.#forget()
      this.#leave()
      this.refused({ export: name, reason: 'audit trail', rule })
      return refusal(Rep.ERR_PLATFORM, 'this gateway can not let anybody in now; its operator can see why')
    }
  }

  /** Closes what was opened and gives back what was taken; nothing can be opened afterwards. */
  close(): void {
    // Opened, and gone before the transmission phase began.
    this.audit.end({ why: 'client gone' })
    this.#forget()
    this.#leave()
    this.#programs.finish()
  }

  get #asker(): Asker {
    return { identity: this.#identity, door: this.#door }
  }

  get #visit(): Visit {
    return { asker: this.#asker, conn: this.#context.conn, peer: this.#visitor.peer }
  }

  /** With what a program has left of its rights. */
  #visitOf(name: string): Visit {
    const most = this.#programs.most(name)
    return most === undefined ? this.#visit : { ...this.#visit, most }
  }

  get #base(): Record<string, unknown> {
    const { peer, via } = this.#visitor
    return { conn: this.#context.conn, peer, via, who: this.who, door: this.#door }
  }

  /**
   * The connection that INFO made, for GO: an upstream may count its connections. Not if the rules have changed in
   * between.
   */
  #reusable(name: string, granted: Granted, wants: Wants, canMultiply: boolean): OpenExport | undefined {
    const opened = this.#opened
    const hasSameHeads =
      opened?.structured.client === wants.structuredReplies && opened.hasExtended === wants.extendedHeaders
    const isSame = opened?.name === name && hasSameHeads
    // What has been listed is not selected, and what is to be listed or selected has to be asked for.
    const hasContexts = wants.contexts.queries.join('\0') === selectedOf(opened).join('\0')
    const isGrantedSo = opened?.rights === granted.rights && this.#canMultiply === canMultiply
    const isReady =
      isSame && fitsSizes(opened, wants.blockSize) && isGrantedSo && hasContexts && wants.contexts.how !== 'list'
    return isReady && this.#upstream === granted.upstream ? { ...opened, contexts: wants.contexts.queries } : undefined
  }

  async #dial(name: string, granted: Granted, wants: Wants, canMultiply: boolean): Promise<OpenExport | Refusal> {
    this.#forget()
    const { description, rights, rule } = granted
    const upstream = await this.#programs.upstream(name, granted, this.#visit)
    if (upstream.kind === 'refused') {
      const { reason, message } = upstream
      this.#leave()
      if (this.#context.isDraining()) return shuttingDown()
      this.refused({ export: name, reason, rule })
      return refusal(reason === 'state' ? Rep.ERR_PLATFORM : Rep.ERR_POLICY, message)
    }
    const { enter: _enter, gone: _gone, ...asked } = wants
    const { dials, log } = this.#context
    const client = proxiedClient(this.#visitor, this.#secured)
    this.#upstream = granted.upstream
    this.#canMultiply = canMultiply
    const opening = {
      name,
      description,
      rights,
      rule,
      ...asked,
      align: granted.align,
      canMultiply,
      client,
      memory: this.#context.memory,
      ssh: dials.ssh,
      notSpread: (why: string) => log.warn({ ...this.#base, export: printable(name), why }, 'not all connections'),
    }
    const sinceMs = commonMs()
    const outage = besideOthers(granted.outage, this.#acquired?.place.others)
    const { opened, way } = await openBy(upstream, opening, dials)
    this.#dialled = { opening, outage, sinceMs, way }
    this.#opened = opened
    return opened
  }

  /** Refuses what has to be LUKS and is not, and watches over the header while somebody writes. */
  async #checkLuks(opened: OpenExport, { luks, rights, rule }: Granted): Promise<Refusal | undefined> {
    if (luks === undefined) return undefined
    const { name } = opened
    const found = await checkLuks(opened, luks)
    if (found.kind === 'none') {
      this.#forget()
      this.#leave()
      this.refused({ export: name, reason: 'require-luks', rule })
      return refusal(Rep.ERR_POLICY, `this export has to be encrypted with LUKS, and ${found.problem}`)
    }
    if (rights === 'write' && !luks.mayFormat) {
      this.#guard = { name, guard: this.#context.guards.take(name, found.guard) }
    }
    return undefined
  }

  #forget(): void {
    if (this.#opened !== undefined) bidFarewell(this.#opened.stream, phaseOf(this.#opened))
    this.#opened = undefined
  }

  async #enter(name: string, granted: Granted, gone: AbortSignal): Promise<Place> {
    const visit = this.#visitOf(name)
    const place = await this.#context.control.acquire(name, visit, gone)
    if (place.kind === 'refused') return place
    this.#acquired = { name, visit, place }
    // From now on: what is told of the term later must find somebody.
    this.#fence = place.term && this.#context.fences.of(place.term)
    this.#limit(granted.rates)
    await this.#context.settle(place.others)
    return place
  }

  async #look(name: string, granted: Granted): Promise<Taken> {
    const rights = await this.#context.control.look(name, this.#visitOf(name))
    return { kind: 'taken', rights, lease: rights === granted.rights ? rights : undefined, others: [] }
  }

  #leave(): void {
    if (this.#guard !== undefined) this.#context.guards.giveBack(this.#guard.name)
    this.#guard = undefined
    if (this.#acquired !== undefined) this.#context.control.release(this.#acquired.name, this.#acquired.visit)
    this.#acquired = undefined
    this.#fence = undefined
    this.#limit([])
  }

  #limit(rates: readonly Rate[]): void {
    const before = this.#rates
    this.#rates = rates
    this.throttle.use(this.#context.rates.take(rates))
    this.#context.rates.giveBack(before)
  }
}
