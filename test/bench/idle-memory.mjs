// Memory of an idle session: opens many over TLS, moves a little data on each, and looks at the gateway's RSS.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { connect as connectTls } from 'node:tls'

const rssKiB = pid => Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1'))[1])

/** KiB of RSS that each of `sessions` idle sessions adds; the first tenth is opened before the count begins. */
export async function idleMemory({ port, pid, certs, sessions }) {
  const warm = Math.ceil(sessions / 10)
  const open = []
  for (let i = 0; i < warm; i++) open.push(await session(port, certs))
  const before = rssKiB(pid)
  for (let i = 0; i < sessions; i++) open.push(await session(port, certs))
  const after = rssKiB(pid)
  for (const socket of open) socket.destroy()
  return (after - before) / sessions
}

async function session(port, certs) {
  const raw = connect(port, '127.0.0.1')
  await once(raw, 'connect')
  await read(raw, 18)
  raw.write(Buffer.from('00000003', 'hex'))
  raw.write(Buffer.from('49484156454f50540000000500000000', 'hex'))
  await read(raw, 20)
  const file = name => readFileSync(`${certs}/${name}.pem`)
  const socket = connectTls({ socket: raw, servername: 'localhost', ca: file('ca-cert'), cert: file('client-cert'), key: file('client-key') })
  await once(socket, 'secureConnect')
  // GO for "disk" without information requests: INFO_EXPORT (32 bytes) and ACK (20 bytes) come back.
  socket.write(Buffer.from('49484156454f5054000000070000000a000000046469736b0000', 'hex'))
  await read(socket, 52)
  // One READ of 128 KiB, so that the session has once been busy: a simple reply of 16 bytes and the data.
  socket.write(Buffer.from('25609513000000000000000000000001000000000000000000020000', 'hex'))
  await read(socket, 16 + 131072)
  socket.pause()
  return socket
}

async function read(socket, size) {
  for (;;) {
    const bytes = socket.read(size)
    if (bytes !== null) return bytes
    await once(socket, 'readable', { signal: AbortSignal.timeout(10_000) })
  }
}
