/**
 * One connection, told from top to bottom: negotiate, relay, close, and say what happened. It has no bytes in it and no
 * policy: those are negotiation/, relay/ and control.ts.
 */
import type { SessionExplanation, SessionFacts } from '../admin/managed.ts'
import type { Visitor } from '../doors/door.ts'
import { TlsError } from '../doors/errors.ts'
import { type Negotiated, negotiate } from '../negotiation/server.ts'
import { TransmissionFlag } from '../protocol/constants.ts'
import { ProtocolError } from '../protocol/errors.ts'
import { printable } from '../protocol/strings.ts'
import { extendedStream } from '../relay/extended-stream.ts'
import type { FlushTimes } from '../relay/keep.ts'
import { Relay } from '../relay/relay.ts'
import type { RelayEnd } from '../relay/relay-end.ts'
import type { ByteStream } from '../stream/byte-stream.ts'
import { StreamError } from '../stream/errors.ts'
import { Wire } from '../stream/wire.ts'
import type { SessionContext } from './context.ts'
import { offenceOf } from './offences.ts'
import type { OpenExport } from './open-export.ts'
import { resuming } from './resuming.ts'
import { RightsWatch } from './rights-watch.ts'
import { SessionHost } from './session-host.ts'
import { type Shutdown, shutDown } from './shutdown.ts'

/** A connection that is being served. */
export interface Session {
  /** Resolves, never rejects, when the connection is closed and all it held is given back. */
  readonly done: Promise<void>
  /** What the rules say of it now; undefined while it haggles. */
  explain(): Promise<SessionExplanation | undefined>

  /** Ends it if what it was granted is not granted any more; whether it did. */
  recheck(): Promise<boolean>

  /** Who is on which export since when, and what has moved; undefined while it haggles. */
  facts(): SessionFacts | undefined

  /** Resolves when no write that it has been sent up to now can still land. Never rejects. */
  settled(): Promise<void>

  /** What it says of its writes to connections that flush for it, and of which they are; undefined: there are none. */
  flushes(): { readonly key: string; readonly times: FlushTimes } | undefined

  /** Ends it; what the upstream has been asked for is done before it is over. */
  retire(reason: string): void

  /** Ends it in good order: what is in flight is answered, and all that comes later with ESHUTDOWN. */
  shutDown(reason: string): Promise<void>

  /** Ends it now. */
  stop(reason: string): void
}

/** Serves a visitor until it is gone. */
export function startSession(visitor: Visitor, context: Omit<SessionContext, 'secured'>): Session {
  let stream: ByteStream = visitor.stream
  let relay: Relay | undefined
  const shutdown: Shutdown = { isOn: false }
  const outage = { isOn: false }
  let rights: RightsWatch | undefined
  let unfence = (): void => {}
  let uncount = (): void => {}
  let flushKey = ''
  let told: Omit<SessionFacts, keyof Relay['counters'] | 'inFlight' | 'upstreamLost'> | undefined
  const host = new SessionHost(visitor, { ...context, secured: secured => (stream = secured) })
  const serve = async (): Promise<void> => {
    try {
      const negotiated = await negotiate(new Wire(stream, context.limits.negotiationMs), host)
      if (negotiated.kind !== 'transmission') {
        stream.end()
        const { peer, via } = visitor
        context.log.debug({ conn: context.conn, peer, via, who: host.who }, `visitor ${negotiated.kind}`)
        return
      }
      context.entered()
      const { export: opened } = negotiated
      const { throttle, guard, fence } = host
      const { conn: id, memory } = context
      const leaving = (): void => context.control.leaving(id)
      const ends = { ...clientSide(stream, negotiated), upstream: opened.stream }
      if (fence !== undefined) opened.stream.gate(fence.isOpen)
      const meter = context.meters.of(opened.name)
      const way = host.wayBack
      const resume = resuming(way, context, { facts: factsOf(opened, { visitor, host, context }), meter, outage })
      const running = new Relay({ ...opened, ...ends, throttle, guard, meter, leaving, shutdown, resume, memory })
      relay = running
      flushKey = way?.flushKey ?? ''
      const { rights: granted, rule, sizeBytes } = opened
      uncount = context.meters.begin(running, { export: opened.name, rights: granted, sizeBytes })
      const place = { door: host.door, export: printable(opened.name), rights: granted, lease: host.lease, rule }
      const { peer, via } = visitor
      told = { id, peer, via, who: host.who, ...place, since: new Date().toISOString() }
      rights = new RightsWatch(host, why => relay?.retire(why))
      unfence = fence?.hold(granted, why => running.stop(why)) ?? unfence
      await relayAndTell(running, opened, { visitor, host, context })
    } catch (error) {
      tellFailure(error, { visitor, host, context })
    } finally {
      uncount()
      rights?.close()
      unfence()
      host.close()
      context.memory.end()
      await settle(stream)
    }
  }
  return {
    done: serve(),
    explain: async () => (relay === undefined ? undefined : await host.explain()),
    recheck: async () => (await rights?.recheck()) ?? false,
    facts: () => relay && told && { ...told, ...relay.counters, inFlight: relay.inFlight, upstreamLost: outage.isOn },
    settled: async () => relay?.settled(),
    flushes: () => (relay?.keep?.isShared === true ? { key: flushKey, times: relay.keep.times } : undefined),
    retire: reason => (relay === undefined ? stream.destroy() : relay.retire(reason)),
    shutDown: async reason => (relay === undefined ? stream.destroy() : await shutDown(relay, shutdown, reason)),
    stop: reason => (relay === undefined ? stream.destroy() : relay.stop(reason)),
  }
}

type Entered = Extract<Negotiated<OpenExport>, { kind: 'transmission' }>

/** The client as the relay sees it, and what it has sent already. */
function clientSide(stream: ByteStream, entered: Entered): { readonly client: ByteStream; readonly early: Buffer } {
  const early = entered.wire.rest()
  const { structured, sizeBytes, flags, contextIds } = entered.export
  if (!entered.extendedHeaders || structured.extended === true) return { client: stream, early }
  const contexts = (flags & TransmissionFlag.BLOCK_STATUS_PAYLOAD) === 0 ? 0 : contextIds.size
  return { client: extendedStream(stream, { sizeBytes, contexts }, early), early: Buffer.alloc(0) }
}

interface Told {
  readonly visitor: Visitor
  readonly host: SessionHost
  readonly context: Omit<SessionContext, 'secured'>
}

/** What every line of the log says of a session. */
function factsOf(opened: OpenExport, { visitor, host, context }: Told) {
  return {
    conn: context.conn,
    peer: visitor.peer,
    via: visitor.via,
    who: host.who,
    export: printable(opened.name),
    rights: opened.rights,
    lease: host.lease,
    rule: opened.rule,
  }
}

async function relayAndTell(relay: Relay, opened: OpenExport, { visitor, host, context }: Told): Promise<void> {
  const facts = factsOf(opened, { visitor, host, context })
  const begin = performance.now()
  context.log.info({ ...facts, ...host.facts }, 'session opened')
  const idle = watchIdle(relay, context.limits.idleMs)
  let why = 'bug'
  try {
    const end = await relay.run()
    why = whyOf(end)
    const ms = Math.round(performance.now() - begin)
    const level = end.kind === 'violation' ? 'warn' : 'info'
    context.log[level]({ ...facts, ...relay.counters, ms, why, ...causeOf(end) }, 'session ended')
  } finally {
    host.audit.end({ ...relay.counters, ms: Math.round(performance.now() - begin), why })
    clearInterval(idle)
  }
}

/** Ends a session in which nothing moves for `idleMs`; 0: never, since a kernel client does not come back from a cut. */
function watchIdle(relay: Relay, idleMs: number): NodeJS.Timeout | undefined {
  if (idleMs === 0) return undefined
  let before = ''
  const look = (): void => {
    const now = JSON.stringify([relay.counters, relay.inFlight])
    if (now === before && relay.inFlight === 0) relay.stop('idle')
    before = now
  }
  return setInterval(look, idleMs)
}

function whyOf(end: RelayEnd): string {
  switch (end.kind) {
    case 'disconnected':
    case 'client gone':
    case 'upstream gone':
      return end.kind
    case 'violation':
      return `${end.side} broke the protocol`
    case 'stopped':
      return end.reason
    default:
      return end satisfies never
  }
}

function causeOf(end: RelayEnd): { err?: Error } {
  return 'error' in end && end.error !== undefined ? { err: end.error } : {}
}

/** The one place where a failure of a session is caught. The peer learns nothing of it. */
function tellFailure(error: unknown, { visitor, host, context }: Told): void {
  const facts = { conn: context.conn, peer: visitor.peer, via: visitor.via, who: host.who, err: error }
  if (error instanceof TlsError) host.turnedDown(error.reason)
  context.charge(offenceOf(error))
  if (error instanceof TlsError) context.log.warn({ ...facts, reason: error.reason }, 'tls failed')
  else if (error instanceof ProtocolError) context.log.warn({ ...facts, code: error.code }, 'protocol broken')
  else if (error instanceof StreamError && error.code === 'TIMEOUT') {
    context.log.warn({ ...facts, code: error.code }, 'negotiation timed out')
  } else if (error instanceof StreamError) context.log.debug({ ...facts, code: error.code }, 'visitor gone')
  else context.log.error(facts, 'bug')
}

/** How long a visitor has to close its side after ours is closed. */
const CLOSE_MS = 2000

function settle(stream: ByteStream): Promise<void> {
  return new Promise(resolve => {
    stream.end()
    const timer = setTimeout(() => stream.destroy(), CLOSE_MS)
    stream.start({
      data: chunk => stream.release(chunk),
      ended: () => stream.destroy(),
      closed: () => {
        clearTimeout(timer)
        resolve()
      },
      drained: () => {},
    })
  })
}
