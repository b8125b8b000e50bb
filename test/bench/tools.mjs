// Processes, certificates and numbers for the benchmarks.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { openSync, readdirSync, readFileSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'

const children = []
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` }

/** Runs a command to its end; throws with its standard error when it fails. */
export async function run(argv) {
  const child = spawn(argv[0], argv.slice(1), { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let [stdout, stderr] = ['', '']
  child.stdout.on('data', chunk => (stdout += chunk))
  child.stderr.on('data', chunk => (stderr += chunk))
  const [code] = await once(child, 'close', { signal: AbortSignal.timeout(120_000) })
  if (code !== 0) throw new Error(`${argv.join(' ')}: exit ${code}\n${stderr}`)
  return { stdout, stderr }
}

/** Starts a server that stays; its output goes to a file. */
export function start(argv, logFile) {
  const out = openSync(logFile, 'a')
  const child = spawn(argv[0], argv.slice(1), { env, stdio: ['ignore', out, out] })
  children.push(child)
  return child
}

/** Stops all that was started, by pid. */
export async function stopAll() {
  for (const file of stopAll.pidFiles) {
    const pid = Number(readFileSync(file, 'latin1'))
    if (pid > 1) process.kill(pid, 'SIGTERM')
  }
  for (const child of children) child.kill('SIGKILL')
}
stopAll.pidFiles = []

export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  return port
}

/** How long a command takes, in seconds. */
export async function timed(argv) {
  const begin = performance.now()
  await run(argv)
  return (performance.now() - begin) / 1000
}

export async function canConnect(port) {
  const socket = connect(port, '127.0.0.1')
  try {
    await once(socket, 'connect')
    return true
  } catch {
    return false
  } finally {
    socket.destroy()
  }
}

/** Asks until the answer is yes, at most a minute: machines that are measured may be busy. */
export async function waitFor(fact) {
  for (const end = performance.now() + 60_000; performance.now() < end; await delay(20)) if (await fact()) return
  throw new Error('not ready within a minute')
}

/** ECDSA P-256 certificates for all peers, made by `nbdgate certs`. */
export async function makePki(dir) {
  const certs = `${dir}/certs`
  const nbdgate = (...argv) => run([process.execPath, 'dist/main.js', 'certs', ...argv, '--dir', certs])
  await nbdgate('init')
  await nbdgate('server', 'localhost', '127.0.0.1')
  await nbdgate('client', 'alice')
  return certs
}

/** A process and its children: a gateway with its workers. */
export function familyOf(pid) {
  const tasks = readdirSync(`/proc/${pid}/task`).map(task => `/proc/${pid}/task/${task}/children`)
  const children = tasks.flatMap(file => textOf(file).split(' ').filter(Boolean).map(Number))
  return [pid, ...children]
}

/** Nothing if it is gone: threads end while we look. */
function textOf(file) {
  try {
    return readFileSync(file, 'latin1')
  } catch {
    return ''
  }
}

/** Processor time of a process and its children. */
export function cpuSeconds(pid) {
  const ticks = familyOf(pid).map(each => {
    const fields = textOf(`/proc/${each}/stat`).split(') ')[1]?.split(' ')
    return fields === undefined ? 0 : Number(fields[11]) + Number(fields[12])
  })
  return ticks.reduce((sum, each) => sum + each, 0) / 100
}

export function median(values) {
  const sorted = [...values].sort((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
}
