import { once } from 'node:events'
import { existsSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { greet } from '../negotiation/client.ts'
import { descriptorOf } from '../platform/libc.ts'
import { Opt } from '../protocol/constants.ts'
import { encodeOption, OPTION_REPLY_HEADER_SIZE } from '../protocol/option.ts'
import { PooledSocket } from '../stream/pooled-socket.ts'
import { Wire } from '../stream/wire.ts'

const POLL_MS = 10
/** How long a socket may be there without the kernel naming it, before it is tried: it may have been moved into its place. */
const UNNAMED_MS = 500
const CONNECT_MS = 2000
const GREETING_MS = 2000

/** A listening socket for a child: `close` ends our part in it, once the child has its own. */
export interface Listening {
  readonly fd: number
  close(): void
}

/** Listens on a path without accepting anybody. */
export async function listenFor(path: string): Promise<Listening> {
  rmSync(path, { force: true })
  const server = createServer()
  server.listen(`${path}.new`)
  await once(server, 'listening')
  // libuv removes the file that it has bound when it closes the socket; this one is to stay.
  renameSync(`${path}.new`, path)
  const fd = descriptorOf(server)
  if (fd === undefined) {
    server.close()
    throw new Error('a listening socket without a descriptor')
  }
  return { fd, close: () => void server.close() }
}

/** Waits until somebody listens on a path, without connecting: some servers end with their first client. @throws AbortError */
export async function untilListening(path: string, signal: AbortSignal): Promise<void> {
  let thereSince: number | undefined
  for (;;) {
    if (isListening(path)) return
    if (thereSince === undefined && existsSync(path)) thereSince = performance.now()
    if (thereSince !== undefined && performance.now() - thereSince > UNNAMED_MS && (await accepts(path))) return
    await delay(POLL_MS, undefined, { signal })
  }
}

/** Whether an NBD server greets whoever connects. Never rejects. */
export async function answers(path: string): Promise<boolean> {
  const stream = new PooledSocket({ path })
  try {
    await stream.connected(AbortSignal.timeout(CONNECT_MS))
    const wire = new Wire(stream, GREETING_MS)
    const { fixed } = await greet(wire)
    if (!fixed) return true
    // proto.md, "NBD_OPT_ABORT": so that it does not look like a client that was cut off.
    await wire.write(encodeOption(Opt.ABORT))
    await wire.read(OPTION_REPLY_HEADER_SIZE).catch(() => {})
    return true
  } catch {
    return false
  } finally {
    stream.destroy()
  }
}

/** proc(5), /proc/net/unix: Num RefCount Protocol Flags Type St Inode Path; the flag is __SO_ACCEPTCON. */
function isListening(path: string): boolean {
  if (!existsSync(path)) return false
  try {
    const lines = readFileSync('/proc/net/unix', 'utf8').split('\n')
    return lines.some(line => line.endsWith(` ${path}`) && line.split(' ')[3] === '00010000')
  } catch {
    return false
  }
}

async function accepts(path: string): Promise<boolean> {
  const stream = new PooledSocket({ path })
  try {
    await stream.connected(AbortSignal.timeout(CONNECT_MS))
    return true
  } catch {
    return false
  } finally {
    stream.destroy()
  }
}
