/** A channel of an SSH connection to where the NBD server listens, as the far host sees it. */
import type { Duplex } from 'node:stream'
import type { Client, ClientChannel } from 'ssh2'
import type { SshUri } from '../config/upstream-uri.ts'
import { printable } from '../protocol/strings.ts'
import { UpstreamError } from './errors.ts'
import { guardChannel, packetBytes, type SshGate } from './ssh-gate.ts'

/** An SSH connection that is logged in. */
export interface SshLink {
  readonly client: Client
  readonly gate: SshGate
}

/** A server that takes smaller packets has something else in mind. */
const MIN_PACKET_BYTES = 1024

/** Opens a channel. @throws UpstreamError DIAL when the server does not before `signal` says stop */
export function openChannel(link: SshLink, target: SshUri['target'], signal: AbortSignal): Promise<Duplex> {
  const { client, gate } = link
  return new Promise((resolve, reject) => {
    const fail = (why: string, cause?: unknown): void => {
      signal.removeEventListener('abort', late)
      reject(new UpstreamError('DIAL', `no SSH channel to ${place(target)}: ${why}`, { cause }))
    }
    const late = (): void => fail('no answer in time')
    signal.addEventListener('abort', late)
    const opened = (error: Error | undefined, channel: ClientChannel): void => {
      if (error !== undefined) {
        fail(printable(error.message), error)
        return
      }
      channel.on('error', () => {})
      // A packet size of 0 would have ssh2 spin for ever: nothing may be written, not even by destroy().
      if (signal.aborted || !(packetBytes(channel) >= MIN_PACKET_BYTES)) {
        channel.close()
        fail(signal.aborted ? 'no answer in time' : 'the server takes no packets of use')
        return
      }
      signal.removeEventListener('abort', late)
      guardChannel(channel, gate)
      resolve(closing(channel))
    }
    if (signal.aborted) {
      late()
      return
    }
    try {
      if (target.kind === 'unix') client.openssh_forwardOutStreamLocal(target.path, opened)
      else client.forwardOut('127.0.0.1', 0, 'localhost', target.port, opened)
    } catch (error) {
      fail('the connection closed', error)
    }
  })
}

function place(target: SshUri['target']): string {
  return target.kind === 'unix' ? target.path : `localhost:${target.port}`
}

/** ssh2 tells of a channel's close only to who has read it to its end; one that is destroyed is read by nobody. */
function closing(channel: ClientChannel): Duplex {
  const destroy = channel.destroy.bind(channel)
  channel.destroy = () => {
    channel.removeAllListeners('data')
    channel.resume()
    return destroy()
  }
  return channel
}
