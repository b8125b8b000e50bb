// What flood.mjs lets loose, in a process of its own: `node flood-source.mjs PORT PER_SECOND ADDRESSES` connects so often from so many
// addresses of 127.0.0.0/8, says garbage and goes. Ends at SIGTERM; then it prints what became of it.
import { connect } from 'node:net'

const [port, perSecond, addresses] = process.argv.slice(2).map(Number)
const TICK_MS = 10
/** Beyond them it waits: its own descriptors have an end. */
const AT_ONCE = 4000
const GARBAGE = Buffer.alloc(64, 0xee)

const told = { begun: 0, connected: 0, greeted: 0, failed: 0, late: 0 }
let now = 0
let owed = 0
let last = performance.now()

function knock() {
  const n = told.begun++ % addresses
  const socket = connect({ host: '127.0.0.1', port, localAddress: `127.66.${n >> 8}.${n & 255 || 1}` })
  now++
  socket.on('error', () => told.failed++)
  socket.on('close', () => now--)
  socket.once('connect', () => {
    told.connected++
    socket.end(GARBAGE)
  })
  socket.once('data', () => told.greeted++)
  socket.setTimeout(2000, () => socket.destroy())
}

const timer = setInterval(() => {
  const at = performance.now()
  owed += ((at - last) / 1000) * perSecond
  last = at
  for (; owed >= 1; owed--) {
    if (now < AT_ONCE) knock()
    else told.late++
  }
}, TICK_MS)

process.on('SIGTERM', () => {
  clearInterval(timer)
  console.log(JSON.stringify(told))
  process.exit(0)
})
