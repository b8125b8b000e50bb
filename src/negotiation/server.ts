/**
 * The server's half of the handshake: greeting, option haggling, and the way into the transmission phase. Every option
 * is read whole before anybody decides on it, so that no refusal can leave bytes on the wire. What exists and who may
 * have it is the Host's business; no option byte of the client ever reaches an upstream.
 */
import { ClientFlag, HandshakeFlag, Info, Opt, Rep } from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import { CLIENT_FLAGS_SIZE, encodeExportNameReply, encodeGreeting } from '../protocol/handshake.ts'
import { decodeInfoRequest, encodeInfoBlockSize } from '../protocol/info.ts'
import { decodeMetaQuery, encodeMetaContext } from '../protocol/meta-context.ts'
import { decodeOptionHeader, encodeOptionReply, encodeServerEntry, OPTION_HEADER_SIZE } from '../protocol/option.ts'
import { decodeString } from '../protocol/strings.ts'
import type { Wire } from '../stream/wire.ts'
import { type ContextWants, type Host, isRefusal, type Opened, type Refusal, type Wants } from './host.ts'
import { infoReplies } from './info-replies.ts'

/** Options before the haggling ends; each export that LIST showed allows for more: clients ask for each what it is. */
const MAX_OPTIONS = 32
const OPTIONS_PER_EXPORT = 4

/** Longest option that is looked at; longer ones are drained and refused. */
const MAX_OPTION_BYTES = 64 * 1024

/** Longest option that is drained; a longer one ends the connection. */
const MAX_DRAINED_OPTION_BYTES = 1024 * 1024

/** Replies that are written together, as soon as they have this many bytes. */
const BATCH_BYTES = 16 * 1024

/** How the haggling ended. */
export type Negotiated<Export> =
  | {
      readonly kind: 'transmission'
      readonly export: Export
      readonly structuredReplies: boolean
      /** Requests and replies have the heads of EXTENDED_HEADERS, which stand for structured replies. */
      readonly extendedHeaders: boolean
      readonly wire: Wire
    }
  /** ABORT, or the client closed between two options. */
  | { readonly kind: 'left' }
  /** EXPORT_NAME could not be answered: the only refusal that the option knows is the end. */
  | { readonly kind: 'refused' }

/** What is agreed so far; forgotten at STARTTLS. */
interface Agreed {
  readonly structuredReplies: boolean
  readonly extendedHeaders: boolean
  /** What SET_META_CONTEXT has selected last. */
  readonly selected?: { readonly name: string; readonly contexts: readonly string[] } | undefined
}

const NO_CONTEXTS: ContextWants = { how: 'keep', queries: [] }

type Step<Export> = Negotiated<Export> | undefined

/**
 * Speaks the server's half on `wire` until the client is in transmission phase or gone.
 * @throws ProtocolError, StreamError, TlsError of the Host's secure()
 */
export async function negotiate<Export extends Opened>(wire: Wire, host: Host<Export>): Promise<Negotiated<Export>> {
  return new Haggling(wire, host).run()
}

class Haggling<Export extends Opened> {
  readonly #host: Host<Export>
  #wire: Wire
  #secure = false
  #fixed = false
  #zeroes = true
  #agreed: Agreed = { structuredReplies: false, extendedHeaders: false }
  #optionsLeft = MAX_OPTIONS
  /** Exports that the longest LIST has shown. */
  #listed = 0

  constructor(wire: Wire, host: Host<Export>) {
    this.#wire = wire
    this.#host = host
  }

  async run(): Promise<Negotiated<Export>> {
    await this.#wire.write(encodeGreeting(HandshakeFlag.FIXED_NEWSTYLE | HandshakeFlag.NO_ZEROES))
    const flagBytes = await this.#wire.readOrEnd(CLIENT_FLAGS_SIZE)
    if (flagBytes === null) return { kind: 'left' }
    const flags = flagBytes.readUInt32BE(0)
    // proto.md, "Client flags": the server MUST close the connection on a flag that it does not know.
    if ((flags & ~(ClientFlag.FIXED_NEWSTYLE | ClientFlag.NO_ZEROES)) !== 0) {
      throw new ProtocolError('BAD_FLAGS', `client flags 0x${flags.toString(16)}`)
    }
    this.#fixed = (flags & ClientFlag.FIXED_NEWSTYLE) !== 0
    this.#zeroes = (flags & ClientFlag.NO_ZEROES) === 0
    for (;;) {
      const step = await this.#nextOption()
      if (step !== undefined) return step
    }
  }

  async #nextOption(): Promise<Step<Export>> {
    const head = await this.#wire.readOrEnd(OPTION_HEADER_SIZE)
    if (head === null) return { kind: 'left' }
    if (this.#optionsLeft-- <= 0) throw new ProtocolError('TOO_MANY_OPTIONS', 'more options than anybody needs')
    const { option, lengthBytes } = decodeOptionHeader(head)
    // proto.md, "Fixed newstyle negotiation": without it EXPORT_NAME is the only option there is.
    if (!this.#fixed && option !== Opt.EXPORT_NAME) {
      throw new ProtocolError('BAD_FLAGS', 'option without fixed newstyle')
    }
    if (lengthBytes > MAX_OPTION_BYTES) return this.#drainOption(option, lengthBytes)
    const data = await this.#wire.read(lengthBytes)
    // proto.md, "FORCEDTLS mode": before TLS only STARTTLS and ABORT work, EXPORT_NAME terminates.
    if (this.#host.tls === 'forced' && !this.#secure && option !== Opt.STARTTLS && option !== Opt.ABORT) {
      if (option === Opt.EXPORT_NAME) return { kind: 'refused' }
      return this.#refuse(option, Rep.ERR_TLS_REQD, 'this server wants STARTTLS first')
    }
    return this.#dispatch(option, data)
  }

  async #dispatch(option: number, data: Buffer): Promise<Step<Export>> {
    if (option !== Opt.ABORT && this.#host.isShuttingDown?.() === true) {
      if (option === Opt.EXPORT_NAME) return { kind: 'refused' }
      return this.#refuse(option, Rep.ERR_SHUTDOWN, 'the gateway is shutting down')
    }
    switch (option) {
      case Opt.EXPORT_NAME:
        return this.#exportName(data)
      case Opt.ABORT:
        await this.#reply(option, Rep.ACK)
        return { kind: 'left' }
      case Opt.LIST:
        return this.#list(data)
      case Opt.STARTTLS:
        return this.#startTls(data)
      case Opt.INFO:
      case Opt.GO:
        return this.#infoOrGo(option, data)
      case Opt.STRUCTURED_REPLY:
        if (data.length > 0) return this.#refuse(option, Rep.ERR_INVALID, 'STRUCTURED_REPLY carries no data')
        this.#agreed = { ...this.#agreed, structuredReplies: true }
        return this.#reply(option, Rep.ACK)
      case Opt.EXTENDED_HEADERS:
        if (data.length > 0) return this.#refuse(option, Rep.ERR_INVALID, 'EXTENDED_HEADERS carries no data')
        this.#agreed = { ...this.#agreed, structuredReplies: true, extendedHeaders: true }
        return this.#reply(option, Rep.ACK)
      case Opt.LIST_META_CONTEXT:
      case Opt.SET_META_CONTEXT:
        return this.#contexts(option, data)
      default:
        return this.#refuse(option, Rep.ERR_UNSUP, 'option not supported')
    }
  }

  async #drainOption(option: number, lengthBytes: number): Promise<Step<Export>> {
    if (lengthBytes > MAX_DRAINED_OPTION_BYTES || option === Opt.EXPORT_NAME) {
      throw new ProtocolError('TOO_LONG', `an option of ${lengthBytes} bytes`)
    }
    await this.#wire.drain(lengthBytes)
    const needsTls = this.#host.tls === 'forced' && !this.#secure && option !== Opt.ABORT && option !== Opt.STARTTLS
    return this.#refuse(option, needsTls ? Rep.ERR_TLS_REQD : Rep.ERR_TOO_BIG, 'option too long')
  }

  async #exportName(data: Buffer): Promise<Step<Export>> {
    const name = decodeString(data)
    // "NBD_OPT_EXTENDED_HEADERS": once it is agreed, a client MUST NOT use EXPORT_NAME.
    if (name === undefined || this.#agreed.extendedHeaders) return { kind: 'refused' }
    const opened = await this.#host.open(name, this.#wants(name, true))
    // proto.md, "NBD_OPT_EXPORT_NAME": there is no error reply; the server MUST terminate the session.
    if (isRefusal(opened)) return { kind: 'refused' }
    await this.#wire.write(encodeExportNameReply(opened.sizeBytes, opened.flags, this.#zeroes))
    return this.#transmission(opened)
  }

  async #list(data: Buffer): Promise<undefined> {
    if (data.length > 0) return this.#refuse(Opt.LIST, Rep.ERR_INVALID, 'LIST carries no data')
    const entries = await this.#host.list()
    this.#optionsLeft += OPTIONS_PER_EXPORT * Math.max(0, entries.length - this.#listed)
    this.#listed = Math.max(this.#listed, entries.length)
    const infos = entries.map(({ name, description }) => encodeServerEntry(name, description))
    return this.#acknowledge(Opt.LIST, Rep.SERVER, infos)
  }

  async #startTls(data: Buffer): Promise<undefined> {
    if (data.length > 0) return this.#refuse(Opt.STARTTLS, Rep.ERR_INVALID, 'STARTTLS carries no data')
    if (this.#secure) return this.#refuse(Opt.STARTTLS, Rep.ERR_INVALID, 'TLS is already there')
    if (this.#host.tls === 'none') return this.#refuse(Opt.STARTTLS, Rep.ERR_POLICY, 'this door has no TLS')
    // A client waits for the ACK. What came ahead of it could have been injected by somebody in between.
    if (this.#wire.bufferedBytes > 0) throw new ProtocolError('UNEXPECTED_DATA', 'bytes ahead of the TLS handshake')
    await this.#reply(Opt.STARTTLS, Rep.ACK)
    this.#wire = await this.#host.secure(this.#wire)
    this.#secure = true
    // CVE-2021-3716: nothing that was agreed in the clear may survive the upgrade.
    this.#agreed = { structuredReplies: false, extendedHeaders: false }
    return undefined
  }

  async #infoOrGo(option: typeof Opt.INFO | typeof Opt.GO, data: Buffer): Promise<Step<Export>> {
    const request = decodeInfoRequest(data)
    if (request === 'invalid') return this.#refuse(option, Rep.ERR_INVALID, 'malformed option')
    if (request === 'too big') return this.#refuse(option, Rep.ERR_TOO_BIG, 'export name longer than 4096 bytes')
    const opened = await this.#host.open(request.name, {
      ...this.#wants(request.name, option === Opt.GO),
      blockSize: request.infos.includes(Info.BLOCK_SIZE),
    })
    if (isRefusal(opened)) return this.#refuseExport(option, opened)
    await this.#acknowledge(option, Rep.INFO, infoReplies(request, opened))
    return option === Opt.GO ? this.#transmission(opened) : undefined
  }

  async #contexts(
    option: typeof Opt.LIST_META_CONTEXT | typeof Opt.SET_META_CONTEXT,
    data: Buffer,
  ): Promise<undefined> {
    const isSet = option === Opt.SET_META_CONTEXT
    // proto.md, "NBD_OPT_SET_META_CONTEXT": replaces what was selected before, also when it fails.
    if (isSet) this.#agreed = { ...this.#agreed, selected: undefined }
    const asked = decodeMetaQuery(data)
    if (asked === 'invalid') return this.#refuse(option, Rep.ERR_INVALID, 'malformed option')
    if (asked === 'too big') return this.#refuse(option, Rep.ERR_TOO_BIG, 'a string longer than 4096 bytes')
    if (!this.#agreed.structuredReplies) {
      return this.#refuse(option, Rep.ERR_INVALID, 'metadata contexts need STRUCTURED_REPLY first')
    }
    const { name, queries } = asked
    const wanted: ContextWants = { how: isSet ? 'select' : 'list', queries }
    const opened = await this.#host.open(name, { ...this.#wants(name, false), contexts: wanted })
    if (isRefusal(opened)) return this.#refuseExport(option, opened)
    if (isSet) this.#agreed = { ...this.#agreed, selected: { name, contexts: opened.contexts } }
    // proto.md, "NBD_OPT_LIST_META_CONTEXT": the id is reserved and SHOULD be zero.
    const contexts = opened.contexts.map((context, at) => encodeMetaContext({ id: isSet ? at : 0, name: context }))
    return this.#acknowledge(option, Rep.META_CONTEXT, contexts)
  }

  /** proto.md, "Metadata querying": contexts hold for the export that they were selected for. */
  #wants(name: string, enter: boolean): Wants {
    const { structuredReplies, extendedHeaders, selected } = this.#agreed
    const contexts: ContextWants = selected?.name === name ? { how: 'keep', queries: selected.contexts } : NO_CONTEXTS
    return { structuredReplies, extendedHeaders, contexts, blockSize: !enter, enter, gone: this.#wire.gone }
  }

  async #refuseExport(option: number, refusal: Refusal): Promise<undefined> {
    // proto.md, "SELECTIVETLS mode": TLS_REQD for exports that want TLS; for unknown ones too, so that nobody can tell. It
    // MUST NOT be said to any option but these.
    const isAsked = option === Opt.INFO || option === Opt.GO
    // proto.md, "NBD_OPT_INFO": BLOCK_SIZE_REQD SHOULD come behind the sizes that it is about.
    const { blockSize } = refusal
    if (blockSize !== undefined && isAsked) await this.#reply(option, Rep.INFO, encodeInfoBlockSize(blockSize))
    const hidden = isAsked && refusal.reply === Rep.ERR_UNKNOWN && this.#host.tls === 'selective' && !this.#secure
    if (hidden) return this.#refuse(option, Rep.ERR_TLS_REQD, 'unknown export, or one that wants STARTTLS')
    return this.#refuse(option, refusal.reply, refusal.message)
  }

  #transmission(opened: Export): Negotiated<Export> {
    const { structuredReplies, extendedHeaders } = this.#agreed
    return { kind: 'transmission', export: opened, structuredReplies, extendedHeaders, wire: this.#wire }
  }

  async #refuse(option: number, reply: Rep, message: string): Promise<undefined> {
    return this.#reply(option, reply, Buffer.from(message))
  }

  /** A reply for each of `all`, then ACK: together, since each write is a record of TLS and a call of the system. */
  async #acknowledge(option: number, reply: Rep, all: readonly Uint8Array[]): Promise<undefined> {
    let batch: Buffer[] = []
    let batchBytes = 0
    for (const data of all) {
      const bytes = encodeOptionReply(option, reply, data)
      batch.push(bytes)
      batchBytes += bytes.length
      if (batchBytes < BATCH_BYTES) continue
      await this.#wire.write(Buffer.concat(batch))
      batch = []
      batchBytes = 0
    }
    await this.#wire.write(Buffer.concat([...batch, encodeOptionReply(option, Rep.ACK)]))
    return undefined
  }

  async #reply(option: number, reply: Rep, data?: Uint8Array): Promise<undefined> {
    await this.#wire.write(encodeOptionReply(option, reply, data))
    return undefined
  }
}
