/**
 * What a logged-in visitor may open: a channel to NBD, by forward or as the command `nbd`. All else is refused with a
 * reason, and so is what the key does not permit.
 */
import type { AcceptConnection, Connection, RejectConnection, ServerChannel, Session } from 'ssh2'
import { printable } from '../protocol/strings.ts'
import { isPermitted, type Target, targetOfPath, targetOfPort } from '../ssh/target.ts'
import type { SshLink } from './ssh-link.ts'
import type { SshLogin } from './ssh-login.ts'
import type { SshStream } from './ssh-stream.ts'
import { channelCount, isChannel } from './ssh2.ts'

/** Channels of a connection at once. */
const MAX_CHANNELS = 32

/** A packet of fewer bytes is no use to anybody; at 0 ssh2 would spin for ever. */
const MIN_PACKET_BYTES = 1024

/** Refusals before the connection is ended: each is a line in the log. */
const MAX_REFUSALS = 64

const ADMINISTRATIVELY_PROHIBITED = 1
const RESOURCE_SHORTAGE = 4
const STDERR = 1

export interface Ways {
  readonly link: SshLink
  readonly login: SshLogin
  isClosing(): boolean
  /**
   * Takes a place for one more visitor and goes on with `then`, at once or later; `full` says why there is none. A yes is
   * followed by `enter` or by `giveBack` in the same turn. Nobody goes on when the connection has gone.
   */
  reserve(then: (full: string | undefined) => void): void
  enter(stream: SshStream, target: Target): void
  /** Gives a place back that nobody has entered on; nothing if there is none. */
  giveBack(): void
  refused(what: string, reason: string): void
}

/** Why a channel is not opened. */
interface Refusal {
  readonly code: number
  readonly reason: string
}

/** Opens the ways in of a connection. */
export function openWays(ways: Ways): void {
  const { client, protocol } = ways.link
  const refuse = countRefusals(ways)
  const { CHANNEL_OPEN: open, GLOBAL_REQUEST: request } = protocol._handlers
  /** Channels that wait for a place. */
  let opening = 0
  protocol._handlers.CHANNEL_OPEN = (p, info) => {
    const asked = describe(info)
    const answer = (refusal: Refusal | undefined): void => {
      if (refusal === undefined) {
        open?.(p, info)
        ways.giveBack()
        return
      }
      refuse(asked.what, refusal.reason)
      protocol.channelOpenFail(asked.sender, refusal.code, `nbdgate: ${refusal.reason}`)
    }
    const isLoggedIn = ways.login.facts !== undefined
    const refusal = isLoggedIn ? judge(asked, ways, opening) : undefined
    if (!isLoggedIn || refusal !== undefined || asked.target === undefined) {
      answer(refusal)
      return
    }
    opening++
    ways.reserve(full => {
      opening--
      answer(full === undefined ? undefined : { code: RESOURCE_SHORTAGE, reason: full })
    })
  }
  protocol._handlers.GLOBAL_REQUEST = (p, name, ...rest) => {
    const isForward = typeof name === 'string' && /^(tcpip-forward|streamlocal-forward@)/.test(name)
    if (isForward && ways.login.facts !== undefined) refuse('remote forward', 'there are no remote forwards here')
    request?.(p, name, ...rest)
  }
  const take = (
    accept: AcceptConnection<ServerChannel>,
    reject: RejectConnection,
    target: Target | undefined,
  ): void => {
    if (target === undefined) reject()
    else admitChannel(accept(), target, false, ways)
  }
  client.on('tcpip', (accept, reject, { destPort }) => take(accept, reject, targetOfPort(destPort)))
  listenStreamLocal(client, take)
  client.on('session', accept => serveSession(accept(), ways, refuse))
}

interface Asked {
  readonly sender: number
  readonly packetBytes: number
  readonly isSession: boolean
  /** For logs: `/exports/disk`, `example.net:22`. */
  readonly what: string
  readonly target: Target | undefined
}

function describe(info: unknown): Asked {
  const of = (name: string, object: unknown = info): unknown => Reflect.get(Object(object), name)
  const data = of('data')
  const type = String(of('type'))
  const [port, path] = [of('destPort', data), of('socketPath', data)]
  const common = {
    sender: Number(of('sender')),
    packetBytes: Number(of('packetSize')),
    isSession: type === 'session',
  }
  if (type === 'direct-tcpip' && typeof port === 'number') {
    return { ...common, what: printable(`${String(of('destIP', data))}:${port}`, 300), target: targetOfPort(port) }
  }
  if (type === 'direct-streamlocal@openssh.com' && typeof path === 'string') {
    return { ...common, what: printable(path, 300), target: targetOfPath(path) }
  }
  return { ...common, what: printable(type, 64), target: undefined }
}

/** What is wrong with a channel before it is opened. */
function judge({ isSession, packetBytes, target }: Asked, ways: Ways, opening: number): Refusal | undefined {
  const count = channelCount(ways.link.client)
  if (!(packetBytes >= MIN_PACKET_BYTES)) return prohibited('packets that small are no use')
  if (count === undefined || count + opening >= MAX_CHANNELS)
    return { code: RESOURCE_SHORTAGE, reason: 'too many channels' }
  if (ways.isClosing()) return prohibited('the gateway is shutting down')
  const standing = ways.login.standing()
  if (standing.kind === 'refused') return prohibited('this login is not good any more')
  if (isSession) return undefined
  if (target === undefined) return prohibited('only NBD is here: port 10809 of any host, /exports and /exports/NAME')
  if (!standing.forwarding) return prohibited('this key may not forward')
  return isPermitted(target, standing.permitted) ? undefined : prohibited('this key may not go there')
}

function prohibited(reason: string): Refusal {
  return { code: ADMINISTRATIVELY_PROHIBITED, reason }
}

function serveSession(session: Session, ways: Ways, refuse: (what: string, reason: string) => void): void {
  const no =
    (what: string, reason: string) =>
    (_: unknown, reject: (() => void) | undefined): void => {
      refuse(what, reason)
      reject?.()
    }
  const refuseCommand = (what: string, reason: string, accept: () => unknown): void => {
    refuse(what, reason)
    endWith(accept(), reason, ways)
  }
  const start = (what: string, accept: () => unknown): void => {
    const go = (reason: string | undefined): void => {
      if (reason !== undefined) refuseCommand(printable(what, 64), reason, accept)
      else admitChannel(accept(), { kind: 'all' }, true, ways)
      ways.giveBack()
    }
    const reason = what === 'nbd' ? commandProblem(ways) : 'no command but nbd can be run here'
    if (reason !== undefined) go(reason)
    else ways.reserve(go)
  }
  session.on('exec', (accept, _, { command }) => start(command, accept))
  session.on('subsystem', (accept, _, { name }) => start(name, accept))
  session.on('shell', accept => refuseCommand('shell', 'there is no shell here: forward a port, or run nbd', accept))
  session.on('pty', no('pty', 'there are no terminals here'))
  session.on('x11', no('x11', 'there is no X11 here'))
  session.on('auth-agent', no('agent', 'agents are not forwarded here'))
}

/** A request that fails has no room for a reason: the command runs, and all it does is to say it. */
function endWith(channel: unknown, reason: string, { link }: Ways): void {
  if (!isChannel(channel)) return
  const { outgoing } = channel
  channel.on('error', () => {})
  channel.resume()
  link.protocol.channelExtData(outgoing.id, Buffer.from(`nbdgate: ${reason}\r\n`), STDERR)
  link.protocol.exitStatus(outgoing.id, 1)
  link.protocol.channelEOF(outgoing.id)
  link.protocol.channelClose(outgoing.id)
  outgoing.state = 'closing'
}

function commandProblem(ways: Ways): string | undefined {
  const standing = ways.login.standing()
  if (standing.kind === 'refused') return 'this login is not good any more'
  if (!isPermitted({ kind: 'all' }, standing.permitted)) return 'this key may not go there'
  return ways.isClosing() ? 'the gateway is shutting down' : undefined
}

function admitChannel(channel: unknown, target: Target, isCommand: boolean, ways: Ways): void {
  // ssh2 has no channel to give when the client has closed it in the meantime.
  if (channel === undefined) return
  if (isChannel(channel)) ways.enter(ways.link.open(channel, { isCommand }), target)
  else ways.link.end()
}

function countRefusals(ways: Ways): (what: string, reason: string) => void {
  let count = 0
  return (what, reason) => {
    // What came in the same piece as the last one is not worth a line.
    if (count >= MAX_REFUSALS) return
    ways.refused(what, reason)
    if (++count === MAX_REFUSALS) ways.link.end()
  }
}

/** ssh2's types do not know the event. */
function listenStreamLocal(
  client: Connection,
  take: (accept: AcceptConnection<ServerChannel>, reject: RejectConnection, target: Target | undefined) => void,
): void {
  const listener = (accept: AcceptConnection<ServerChannel>, reject: RejectConnection, info: unknown): void => {
    const path: unknown = Reflect.get(Object(info), 'socketPath')
    take(accept, reject, typeof path === 'string' ? targetOfPath(path) : undefined)
  }
  Reflect.apply(client.on, client, ['openssh.streamlocal', listener])
}
