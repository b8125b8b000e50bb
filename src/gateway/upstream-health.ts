/**
 * Whether upstreams can be reached, for readiness and metrics: a connection and a greeting, nothing of an export. Asked
 * for by those who watch the gateway, so what was found out holds for a while, and a crowd of them makes one check.
 */
import { access, constants } from 'node:fs/promises'
import type { ExportConfig, UpstreamConfig } from '../config/config.ts'
import { standing } from '../config/named-files.ts'
import { greet } from '../negotiation/client.ts'
import { Opt } from '../protocol/constants.ts'
import { encodeOption, OPTION_REPLY_HEADER_SIZE } from '../protocol/option.ts'
import { encodeProxyV2 } from '../protocol/proxy-v2.ts'
import type { ByteStream } from '../stream/byte-stream.ts'
import { PooledSocket } from '../stream/pooled-socket.ts'
import { Wire } from '../stream/wire.ts'

/** How long what was found out holds. */
const FRESH_MS = 10_000

/** How long one upstream may take to connect, and to say a word. */
const CONNECT_MS = 2000
const GREETING_MS = 2000

const AT_ONCE = 16

/** The first word of every SSH server (RFC 4253, 4.2). */
const SSH_BANNER = 'SSH-'

interface Known {
  /** Undefined: it answers. */
  readonly problem: string | undefined
  readonly atMs: number
}

/** Something with an upstream. */
type Askable = Pick<ExportConfig, 'upstream'>

export class UpstreamHealth {
  readonly #known = new Map<string, Known>()
  #checking: Promise<void> | undefined

  /** What was found out last of an export's upstream; undefined: nothing yet, or there is no way to find out. */
  of({ upstream }: Askable): Known | undefined {
    // Of several ways one is enough.
    const known = standing(upstream).flatMap(way => this.#known.get(placeOf(way)) ?? [])
    return known.find(({ problem }) => problem === undefined) ?? known[0]
  }

  /** An upstream that serves a session answers, and need not be asked. */
  serves({ upstream }: Askable): void {
    // Which of several ways it is, is not known here.
    const [place, ...others] = standing(upstream).map(placeOf)
    if (place !== undefined && others.length === 0)
      this.#known.set(place, { problem: undefined, atMs: performance.now() })
  }

  /** Sessions have lost an upstream: it is asked again when somebody wants to know. */
  fails({ upstream }: Askable): void {
    const [place, ...others] = standing(upstream).map(placeOf)
    if (place === undefined || others.length > 0 || this.#known.get(place)?.problem !== undefined) return
    this.#known.set(place, { problem: 'sessions have lost it', atMs: -Infinity })
  }

  /** Finds out what is not known or not fresh; one check at a time. Never rejects. */
  async refresh(exports: readonly Askable[]): Promise<void> {
    this.#checking ??= this.#refresh(exports).finally(() => {
      this.#checking = undefined
    })
    await this.#checking
  }

  async #refresh(exports: readonly Askable[]): Promise<void> {
    const places = new Map<string, UpstreamConfig>()
    for (const upstream of exports.flatMap(each => standing(each.upstream))) {
      places.set(placeOf(upstream), upstream)
    }
    for (const place of this.#known.keys()) if (!places.has(place)) this.#known.delete(place)
    const isStale = (place: string): boolean => {
      const known = this.#known.get(place)
      return known === undefined || performance.now() - known.atMs > FRESH_MS
    }
    const due = [...places].filter(([place]) => isStale(place))
    const checkSome = async (): Promise<void> => {
      for (let next = due.pop(); next !== undefined; next = due.pop()) {
        const [place, upstream] = next
        const problem = await problemOf(upstream)
        this.#known.set(place, { problem, atMs: performance.now() })
      }
    }
    await Promise.all(Array.from({ length: AT_ONCE }, checkSome))
  }
}

/** Where an upstream is, to ask once where several exports are behind it. */
function placeOf(upstream: UpstreamConfig): string {
  switch (upstream.kind) {
    case 'file':
      return `file ${upstream.path}`
    case 'unix':
      return `unix ${upstream.path}`
    case 'tcp':
    case 'ssh':
      return `${upstream.kind} ${upstream.host}:${upstream.port}`
    default:
      return upstream satisfies never
  }
}

/** Why an upstream can not be used; undefined: it answers. Never rejects. */
async function problemOf(upstream: UpstreamConfig): Promise<string | undefined> {
  try {
    if (upstream.kind === 'file') await access(upstream.path, constants.R_OK)
    else await hear(upstream)
    return undefined
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'no answer'
    return code === 'ABORT_ERR' ? 'no connection in time' : code
  }
}

async function hear(upstream: Exclude<UpstreamConfig, { kind: 'file' }>): Promise<void> {
  const address = upstream.kind === 'unix' ? { path: upstream.path } : { host: upstream.host, port: upstream.port }
  const stream = new PooledSocket(address)
  try {
    await stream.connected(AbortSignal.timeout(CONNECT_MS))
    const wire = new Wire(stream, GREETING_MS)
    if (upstream.kind === 'ssh') await hearBanner(wire)
    else await hearGreeting(wire, stream, upstream.proxyProtocol !== undefined)
  } finally {
    stream.destroy()
  }
}

async function hearBanner(wire: Wire): Promise<void> {
  const banner = await wire.read(SSH_BANNER.length)
  if (banner.toString('latin1') !== SSH_BANNER) throw new Error('this is no SSH server')
}

async function hearGreeting(wire: Wire, stream: ByteStream, wantsHeader: boolean): Promise<void> {
  const header = wantsHeader ? encodeProxyV2({}) : undefined
  if (header !== undefined) stream.write(header)
  const { fixed } = await greet(wire)
  // proto.md, "NBD_OPT_ABORT": so that it does not look like a client that was cut off.
  if (!fixed) return
  await wire.write(encodeOption(Opt.ABORT))
  // Not every server answers that before it closes.
  await wire.read(OPTION_REPLY_HEADER_SIZE).catch(() => {})
}
