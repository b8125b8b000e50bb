/** What `nbdgate doctor` says of the host it runs on: Node, ssh2, koffi, the clock. */
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { promisify } from 'node:util'
import { isNative } from '../doors/ssh2.ts'
import { VERSION } from '../observe/version.ts'
import { isLibcAvailable } from '../platform/libc.ts'
import { type Finding, fine, problem, warning } from './doctor-finding.ts'

/** Last day of support of each release line: github.com/nodejs/Release, schedule.json. */
const NODE_ENDS: Readonly<Record<number, string>> = {
  20: '2026-04-30',
  21: '2024-06-01',
  22: '2027-04-30',
  23: '2025-06-01',
  24: '2028-04-30',
  25: '2026-06-01',
}
const OLDEST_NODE = [20, 19] as const
/** This version was made then: a clock that says less is wrong. */
const RELEASED = '2026-11-01'
const MS_PER_DAY = 86_400_000
const SOON_DAYS = 90
const ASK_MS = 2000

/** Facts of the host that need no configuration. */
export async function runtimeFindings(nowMs: number): Promise<readonly Finding[]> {
  return [
    fine('version', `nbdgate ${VERSION}`),
    nodeFinding(process.versions.node, nowMs),
    fine('openssl', `OpenSSL ${process.versions.openssl}`),
    ssh2Finding(isNative()),
    koffiFinding(isLibcAvailable()),
    ...(await clockFindings(nowMs)),
  ]
}

/** Whether this Node still gets security fixes. */
export function nodeFinding(version: string, nowMs: number): Finding {
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const name = `Node.js ${version}`
  const upgrade = 'install a release line with long-term support: https://nodejs.org/en/about/previous-releases'
  if (major < OLDEST_NODE[0] || (major === OLDEST_NODE[0] && minor < OLDEST_NODE[1])) {
    return problem('node', `${name} is older than ${OLDEST_NODE.join('.')}`, upgrade)
  }
  const end = NODE_ENDS[major]
  if (end === undefined) return fine('node', name)
  const daysLeft = Math.floor((Date.parse(end) - nowMs) / MS_PER_DAY)
  if (daysLeft < 0) return warning('node', `${name} is past its end of life (${end}): no security fixes`, upgrade)
  if (daysLeft < SOON_DAYS) return warning('node', `${name} reaches its end of life on ${end}`, upgrade)
  return fine('node', `${name}, supported until ${end}`)
}

function ssh2Finding(native: boolean): Finding {
  if (native) return fine('ssh', 'ssh2 has its native cipher')
  const todo = 'let npm run its install script (npm rebuild ssh2, with a C++ compiler); without SSH it does not matter'
  return warning('ssh', 'ssh2 has no native cipher: SSH takes several times the processor', todo)
}

function koffiFinding(available: boolean): Finding {
  if (available)
    return fine('koffi', 'koffi is there: uid: and gid: rules, probes of lost clients, holes in files, ends of leases')
  const todo = 'install the optional package koffi, or do without those rules and without leases in etcd'
  const lacks = 'rules with uid: and gid: hold for nobody, and nothing ends a process that outlives its leases'
  return warning('koffi', `koffi is not there: ${lacks}`, todo)
}

async function clockFindings(nowMs: number): Promise<readonly Finding[]> {
  const now = new Date(nowMs).toISOString()
  if (nowMs < Date.parse(RELEASED)) {
    return [problem('clock', `the clock says ${now}, which is before this version was made`, 'set the clock')]
  }
  const synchronised = await isSynchronised()
  if (synchronised === undefined) return [fine('clock', `${now}; whether it is kept right can not be told here`)]
  if (synchronised) return [fine('clock', `${now}, kept by NTP`)]
  const todo = 'run chrony or systemd-timesyncd: certificates, `until` and revocation lists go by the clock'
  return [warning('clock', `${now}, and nothing keeps it right`, todo)]
}

/** Whether NTP holds the clock; undefined where nobody can tell. */
async function isSynchronised(): Promise<boolean | undefined> {
  if (existsSync('/run/systemd/timesync/synchronized')) return true
  try {
    const args = ['show', '--property=NTPSynchronized', '--value']
    const { stdout } = await promisify(execFile)('timedatectl', args, { timeout: ASK_MS })
    return stdout.trim() === 'yes' ? true : stdout.trim() === 'no' ? false : undefined
  } catch {
    return undefined
  }
}
