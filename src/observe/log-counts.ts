/**
 * Counts what the log says. Each refusal and each failure is reported in one place, with a constant message: whoever adds
 * a place where something is refused can not forget to count it.
 */

import type { Facts } from './log.ts'
import { exportLabel } from './session-meters.ts'
import { TallyMap } from './tally-map.ts'

/** How a refusal is told from another: at which step, by which field of its line, and the values that there are. */
interface RefusalLine {
  readonly stage: string
  readonly field: 'reason' | 'code'
  readonly known: readonly string[]
}

const REFUSALS: Readonly<Record<string, RefusalLine>> = {
  'turned away': {
    stage: 'accept',
    field: 'reason',
    known: ['from', 'penalty', 'sessions', 'sessions-per-door', 'max-startups', 'sessions-per-address', 'proxy header'],
  },
  'tls failed': {
    stage: 'tls',
    field: 'reason',
    known: [
      'no certificate',
      'unknown CA',
      'expired',
      'not yet valid',
      'revoked',
      'CRL expired',
      'no CRL',
      'wrong purpose',
      'certificate refused',
      'wrong key',
      'handshake failed',
      'handshake timeout',
      'gone',
    ],
  },
  'ssh login failed': {
    stage: 'ssh login',
    field: 'reason',
    known: ['not logged in', 'an unknown key', 'a key of somebody else', 'a certificate of somebody else'],
  },
  'ssh refused': { stage: 'ssh channel', field: 'reason', known: [] },
  'protocol broken': { stage: 'haggling', field: 'code', known: [] },
  'negotiation timed out': { stage: 'haggling', field: 'code', known: ['TIMEOUT'] },
  refused: {
    stage: 'export',
    field: 'reason',
    known: [
      'no such export',
      'wrong door',
      'denied',
      'no rule',
      'expired',
      'limits.sessions',
      'busy',
      'leases',
      'require-luks',
      'another export',
      'audit trail',
      'authorize',
      'prepare',
      'state',
      'nobody known',
    ],
  },
}

const ENDS = [
  'disconnected',
  'client gone',
  'upstream gone',
  'client broke the protocol',
  'upstream broke the protocol',
  'idle',
  'kicked',
  'gateway stopped',
  'lease released',
  'worker died',
  'bug',
]

/** An end of a session that was the upstream's doing → the code that failures have. */
const LOSSES: Readonly<Record<string, string>> = {
  'upstream gone': 'LOST',
  'upstream broke the protocol': 'PROTOCOL',
}

/** What a session says of the way back to an upstream that it has lost. */
const RECONNECTS = ['upstream lost', 'upstream back', 'upstream given up']
const WRITES_LOST = 'unflushed writes lost'

const UPSTREAM_CODES = ['DIAL', 'HANDSHAKE', 'REFUSED', 'LOST']
const NO_LONGER_ALLOWED = 'no longer allowed'

export class LogCounts {
  /** By stage and reason. */
  readonly refusals = new TallyMap(['stage', 'reason'])
  /** Ends of sessions by why. */
  readonly ends = new TallyMap(['why'])
  /** By export and code. */
  readonly upstreamFailures = new TallyMap(['export', 'code'])
  /** By export and what became of it. */
  readonly reconnects = new TallyMap(['export', 'state'])
  /** By export: writes that were acknowledged, not flushed, and are gone. */
  readonly flushLosses = new TallyMap(['export'])
  /** Warnings and errors, by level. */
  readonly lines = new TallyMap(['level'])
  /** By result. */
  readonly reloads = new TallyMap(['result'])
  bugs = 0
  /** Workers that have died, and are started again. */
  workerDeaths = 0
  /** Undefined before the first one. */
  lastReload: 'reloaded' | 'failed' | undefined
  readonly #isExport: (name: string) => boolean

  /** `isExport`: whether the configuration has an export of this printable name. */
  constructor(isExport: (name: string) => boolean) {
    this.#isExport = isExport
    const refusals = Object.values(REFUSALS)
    this.refusals.expect(refusals.flatMap(({ stage, known }) => known.map(each => [stage, each])))
    this.ends.expect([...ENDS, NO_LONGER_ALLOWED].map(why => [why]))
    this.lines.expect([['warn'], ['error']])
    this.reloads.expect([['reloaded'], ['failed']])
  }

  /** Series of these exports begin at 0: in one that begins with what is counted first, no `increase` would be seen. */
  expect(labels: readonly string[]): void {
    const failures = [...new Set([...UPSTREAM_CODES, ...Object.values(LOSSES)])]
    this.upstreamFailures.expect(labels.flatMap(label => failures.map(code => [label, code])))
    this.reconnects.expect(labels.flatMap(label => RECONNECTS.map(state => [label, state])))
    this.flushLosses.expect(labels.map(label => [label]))
  }

  count(level: string, facts: Facts, message: string): void {
    if (level === 'warn' || level === 'error') this.lines.add([level])
    const refusal = REFUSALS[message]
    if (refusal !== undefined)
      this.refusals.add([refusal.stage, oneOf(refusal.known, facts[refusal.field])], timesOf(facts))
    else if (message === 'upstream failed') this.#upstreamFailed(facts.export, oneOf(UPSTREAM_CODES, facts.code))
    else if (message === 'session ended') this.#ended(facts)
    else if (RECONNECTS.includes(message)) this.reconnects.add([this.#label(facts.export), message])
    else if (message === WRITES_LOST) this.flushLosses.add([this.#label(facts.export)])
    else if (message === 'reloaded') this.#reloaded('reloaded')
    else if (message === 'reload failed: all stays as it was') this.#reloaded('failed')
    else if (message === 'bug') this.bugs++
    else if (message === 'worker died') this.workerDeaths++
  }

  #reloaded(result: 'reloaded' | 'failed'): void {
    this.reloads.add([result])
    this.lastReload = result
  }

  #ended({ why, export: name }: Facts): void {
    const text = String(why)
    this.ends.add([text.startsWith(NO_LONGER_ALLOWED) ? NO_LONGER_ALLOWED : oneOf(ENDS, text)])
    const code = LOSSES[text]
    if (code !== undefined) this.#upstreamFailed(name, code)
  }

  #upstreamFailed(name: unknown, code: string): void {
    this.upstreamFailures.add([this.#label(name), code])
  }

  #label(name: unknown): string {
    return typeof name === 'string' && this.#isExport(name) ? exportLabel(name) : 'other'
  }
}

/** A line may speak of several. */
function timesOf({ times }: Facts): number {
  return typeof times === 'number' ? times : 1
}

/** What is not foreseen has one name: the number of series has a bound. */
function oneOf(known: readonly string[], value: unknown): string {
  return typeof value === 'string' && known.includes(value) ? value : 'other'
}
