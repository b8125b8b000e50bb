// How smoothly the page runs, and whether it grows: a gateway with sessions that work, its page in Chromium, and the time
// between frames; then the same page with time running faster, and its heap after collections. Prints figures, asserts nothing.
//
//   node test/bench/page.mjs --sessions 200 --seconds 20 --minutes 60
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { chromium } from 'playwright-core'
import { findProgram } from '../support/programs.mjs'
import { canConnect, freePort, run, start, stopAll, waitFor } from './tools.mjs'

const args = process.argv.slice(2)
const option = (name, fallback) => Number(args.includes(name) ? args[args.indexOf(name) + 1] : fallback)
const SESSIONS = option('--sessions', 200)
const SECONDS = option('--seconds', 20)
const MINUTES = option('--minutes', 60)
/** Rows that the page shows at most. */
const SHOWN = 400
/** How much faster time runs for the page that is left open. */
const FASTER = 20

const dir = mkdtempSync(join(tmpdir(), 'nbdgate-bench-'))
let browser
try {
  await main()
} finally {
  await browser?.close()
  await stopAll()
  rmSync(dir, { recursive: true, force: true })
}

async function main() {
  const [port, http] = [await freePort(), await freePort()]
  await run(['truncate', '-s', '256M', join(dir, 'disk.img')])
  const file = join(dir, 'nbdgate.yaml')
  writeFileSync(
    file,
    `version: 1
workers: 1
admin: { http: "127.0.0.1:${http}" }
doors: [{ tcp: "127.0.0.1:${port}", from: [127.0.0.0/8] }]
limits: { sessions: ${SESSIONS + 10}, sessions-per-address: ${SESSIONS + 10} }
exports: [{ name: disk, upstream: { file: disk.img }, sharing: cluster, allow: [{ who: anyone, rights: write }] }]
`,
  )
  start([process.execPath, 'dist/main.js', 'serve', '--config', file], join(dir, 'log'))
  await waitFor(() => canConnect(port))
  const clients = await Promise.all(Array.from({ length: SESSIONS }, () => client(port)))
  const working = setInterval(() => clients.forEach(ask), 250)
  const isRoot = process.getuid?.() === 0
  browser = await chromium.launch({ executablePath: findProgram('chromium'), args: isRoot ? ['--no-sandbox'] : [] })
  const url = `http://127.0.0.1:${http}/`
  await pacing(url)
  await growth(url)
  clearInterval(working)
  for (const socket of clients) socket.destroy()
}

async function pacing(url) {
  const page = await opened(url)
  const { gaps, blocked } = await page.evaluate(async seconds => {
    const gaps = []
    let blocked = 0
    new PerformanceObserver(list => {
      for (const { duration } of list.getEntries()) blocked += duration
    }).observe({ type: 'longtask' })
    const end = performance.now() + seconds * 1000
    let before = performance.now()
    while (before < end) {
      const now = await new Promise(requestAnimationFrame)
      gaps.push(now - before)
      before = now
    }
    return { gaps: gaps.slice(2), blocked }
  }, SECONDS)
  const at = share => gaps.toSorted((a, b) => a - b)[Math.floor(share * (gaps.length - 1))].toFixed(1)
  const rate = (1000 * gaps.length) / gaps.reduce((sum, gap) => sum + gap, 0)
  const late = gaps.filter(gap => gap > 33.4).length
  console.log(
    `${SESSIONS} sessions, ${SECONDS} s: ${rate.toFixed(1)} frames/s; between frames median ${at(0.5)} ms, 99 % ${at(0.99)} ms, longest ${at(1)} ms`,
  )
  console.log(
    `  ${late} of ${gaps.length} frames late by more than one; tasks above 50 ms: ${blocked.toFixed(0)} ms in all`,
  )
  await page.close()
}

async function growth(url) {
  const page = await opened(url, faster => {
    const { setTimeout: original } = globalThis
    globalThis.setTimeout = (run, ms, ...rest) => original(run, ms / faster, ...rest)
  })
  const protocol = await page.context().newCDPSession(page)
  await protocol.send('HeapProfiler.enable')
  for (let part = 0; part <= 4; part++) {
    if (part > 0) await delay((MINUTES * 60_000) / 4 / FASTER)
    await protocol.send('HeapProfiler.collectGarbage')
    const { usedSize } = await protocol.send('Runtime.getHeapUsage')
    const { nodes, jsEventListeners } = await protocol.send('Memory.getDOMCounters')
    const looks = await page.evaluate(() => performance.getEntriesByType('resource').length)
    console.log(
      `after ${(part * MINUTES) / 4} minutes: ${(usedSize / 1e6).toFixed(2)} MB of heap, ${nodes} nodes, ${jsEventListeners} listeners (${looks} entries of the browser's own)`,
    )
  }
  await page.close()
}

async function opened(url, init) {
  const page = await browser.newPage({ viewport: { width: 1440, height: 1000 } })
  if (init !== undefined) await page.addInitScript(init, FASTER)
  await page.goto(url)
  await page
    .locator('#sessions tbody tr')
    .nth(Math.min(SESSIONS, SHOWN) - 1)
    .waitFor()
  return page
}

/** A visitor in transmission phase: doc/proto.md's NBD_OPT_GO, by hand. */
async function client(port) {
  const socket = connect(port, '127.0.0.1')
  socket.on('error', () => {})
  socket.resume()
  const name = Buffer.from('disk')
  const go = Buffer.alloc(4 + 8 + 4 + 4 + 4 + name.length + 2)
  go.writeUInt32BE(3)
  go.write('IHAVEOPT', 4)
  go.writeUInt32BE(7, 12)
  go.writeUInt32BE(4 + name.length + 2, 16)
  go.writeUInt32BE(name.length, 20)
  name.copy(go, 24)
  socket.write(go)
  return socket
}

/** One READ or WRITE of 4 KiB somewhere. */
function ask(socket) {
  const isWrite = Math.random() < 0.5
  const request = Buffer.alloc(28 + (isWrite ? 4096 : 0))
  request.writeUInt32BE(0x25609513)
  request.writeUInt16BE(isWrite ? 1 : 0, 6)
  request.writeUInt32BE(Math.floor(Math.random() * 65_536) * 4096, 20)
  request.writeUInt32BE(4096, 24)
  socket.write(request)
}
