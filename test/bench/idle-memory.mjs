// Memory of an idle session: opens many over TLS, moves a little data on each, and looks at the gateway's RSS.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { connect as connectTls, createSecureContext } from 'node:tls'
import { familyOf } from './tools.mjs'

const rssKiB = pid => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))[1])

/**
 * KiB of RSS that each of `sessions` idle sessions adds, over all processes of the gateway; the first tenth is opened before
 * the count begins.
 */
export async function idleMemory({ port, pid, certs, sessions }) {
  const rss = () => familyOf(pid).reduce((sum, each) => sum + rssKiB(each), 0)
  const file = name => readFileSync(`${certs}/${name}.pem`)
  const secureContext = createSecureContext({ ca: file('ca-cert'), cert: file('client-cert'), key: file('client-key') })
  const warm = Math.ceil(sessions / 10)
  const open = []
  for (let i = 0; i < warm; i++) open.push(await session(port, secureContext))
  const before = rss()
  for (let i = 0; i < sessions; i++) open.push(await session(port, secureContext))
  const after = rss()
  for (const socket of open) socket.destroy()
  return (after - before) / sessions
}

async function session(port, secureContext) {
  const raw = connect(port, '127.0.0.1')
  await receive(raw, 18)
  // Client flags and STARTTLS; the ACK has 20 bytes.
  await receive(raw, 20, '0000000349484156454f50540000000500000000')
  const socket = connectTls({ socket: raw, servername: 'localhost', secureContext })
  await once(socket, 'secureConnect', { signal: AbortSignal.timeout(10_000) })
  // GO for "disk" without information requests: INFO_EXPORT (32 bytes) and ACK (20 bytes) come back.
  await receive(socket, 52, '49484156454f5054000000070000000a000000046469736b0000')
  // One READ of 128 KiB, so that the session has once been busy: a simple reply of 16 bytes and the data.
  await receive(socket, 16 + 131072, '25609513000000000000000000000001000000000000000000020000')
  return socket
}

/** Sends a message in hex and waits until `size` bytes have come back. */
async function receive(socket, size, message) {
  const signal = AbortSignal.timeout(10_000)
  let got = 0
  const count = chunk => {
    got += chunk.length
  }
  socket.on('data', count)
  if (message !== undefined) socket.write(Buffer.from(message, 'hex'))
  while (got < size) await once(socket, 'data', { signal })
  socket.off('data', count)
}
