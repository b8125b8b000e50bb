/**
 * What one process can tell of itself and of the sessions in it: counted as they go, put into form when somebody asks.
 * Its metrics are plain data, so that those of several processes can be put together in one of them.
 */

import { EventFeed, type GatewayEvent } from './event-feed.ts'
import { type EventLoopDelay, watchEventLoop } from './event-loop.ts'
import { HANDOVERS, REQUEST_KINDS } from './export-meter.ts'
import { Histogram } from './histogram.ts'
import type { Facts, Log } from './log.ts'
import { LogCounts } from './log-counts.ts'
import { counter, gauge, histogram, type MetricFamily } from './metric-family.ts'
import { type ExportTotals, exportLabel, SessionMeters } from './session-meters.ts'

/** Lines of the log that are events too. */
const EVENTS: Readonly<Record<string, GatewayEvent['kind']>> = {
  'session opened': 'opened',
  'session ended': 'ended',
  refused: 'refused',
  'turned away': 'refused',
  'tls failed': 'refused',
  'ssh login failed': 'refused',
  'ssh refused': 'refused',
  reloaded: 'reloaded',
  'upstream failed': 'upstream',
  'upstream lost': 'upstream',
  'upstream back': 'upstream',
  'upstream given up': 'upstream',
  'unflushed writes lost': 'upstream',
}

export class Telemetry {
  readonly meters = new SessionMeters()
  readonly events = new EventFeed()
  readonly #counts = new LogCounts(name => this.#labels.has(exportLabel(name)))
  #labels: ReadonlySet<string> = new Set()
  #delay: EventLoopDelay | undefined

  /** The exports that there are: all others are counted as `other` in metrics, those that upstreams list too. */
  retain(exports: readonly { readonly name: string; readonly isListed?: boolean }[]): void {
    const namesOf = (isListed: boolean): readonly string[] =>
      exports.filter(each => (each.isListed === true) === isListed).map(({ name }) => name)
    const written = namesOf(false)
    this.#labels = new Set(written.map(exportLabel))
    this.#counts.expect([...this.#labels])
    this.meters.retain(written, namesOf(true))
  }

  /** The same log, with an ear on it. */
  hear(log: Log): Log {
    const write =
      (level: keyof Log) =>
      (facts: Facts, message: string): void => {
        log[level](facts, message)
        this.#counts.count(level, facts, message)
        const kind = EVENTS[message]
        if (kind !== undefined) this.events.tell(kind, message, facts)
        if ((kind === 'opened' || kind === 'ended') && facts.lease !== 'none') {
          this.events.tell('lease', kind === 'opened' ? 'lease taken' : 'lease given back', facts)
        }
      }
    return { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') }
  }

  /** How the last reload went; undefined before the first one. */
  get lastReload(): 'reloaded' | 'failed' | undefined {
    return this.#counts.lastReload
  }

  /** All metrics of this process. */
  families(): readonly MetricFamily[] {
    // Watched from the first time on: who is never asked does without.
    this.#delay ??= watchEventLoop()
    const totals = this.meters.totals()
    return [
      ...sessionFamilies(totals),
      ...trafficFamilies(totals),
      ...timeFamilies(totals),
      ...this.#countFamilies(),
      ...this.#delay.families(),
      ...processFamilies(),
    ]
  }

  #countFamilies(): readonly MetricFamily[] {
    const { ends, refusals, upstreamFailures, reconnects, flushLosses, lines, reloads, bugs, workerDeaths } =
      this.#counts
    return [
      counter('nbdgate_sessions_ended_total', 'Sessions that have ended, by why.', ends.values()),
      counter('nbdgate_refusals_total', 'Refusals by the stage they happened at and the reason.', refusals.values()),
      counter(
        'nbdgate_upstream_failures_total',
        'Upstreams that could not be used, or went away in the middle of a session (LOST, PROTOCOL).',
        upstreamFailures.values(),
      ),
      counter(
        'nbdgate_upstream_reconnects_total',
        'Sessions that lost their upstream, came back to it, or gave up.',
        reconnects.values(),
      ),
      counter(
        'nbdgate_flush_losses_total',
        'Sessions whose acknowledged writes were gone when the upstream came back: the next FLUSH failed.',
        flushLosses.values(),
      ),
      counter('nbdgate_log_lines_total', 'Warnings and errors in the log.', lines.values()),
      counter('nbdgate_reloads_total', 'Reloads of the configuration by result.', reloads.values()),
      counter('nbdgate_bugs_total', 'Sessions that ended by a bug of the gateway.', [[bugs]]),
      counter('nbdgate_worker_restarts_total', 'Workers that have died, and are started again.', [[workerDeaths]]),
    ]
  }
}

function sessionFamilies(totals: readonly ExportTotals[]): readonly MetricFamily[] {
  const opened = totals.map(({ name, meter }) => [meter.opened, { export: name }] as const)
  const now = totals.flatMap(({ name, uses }) =>
    ['read', 'write'].map(rights => {
      return [uses.filter(use => use.rights === rights).length, { export: name, rights }] as const
    }),
  )
  return [
    gauge('nbdgate_sessions', 'Sessions in transmission phase.', now),
    counter('nbdgate_sessions_opened_total', 'Sessions that have reached the transmission phase.', opened),
  ]
}

function trafficFamilies(totals: readonly ExportTotals[]): readonly MetricFamily[] {
  const requests = totals.flatMap(({ name, counts }) => [
    [counts.reads, { export: name, kind: 'read' }] as const,
    [counts.writes, { export: name, kind: 'write' }] as const,
    [counts.flushes, { export: name, kind: 'flush' }] as const,
    [counts.others, { export: name, kind: 'other' }] as const,
  ])
  const bytes = totals.flatMap(({ name, counts }) => [
    [counts.bytesRead, { export: name, direction: 'read' }] as const,
    [counts.bytesWritten, { export: name, direction: 'write' }] as const,
  ])
  const of = (value: (each: ExportTotals) => number) =>
    totals.map(each => [value(each), { export: each.name }] as const)
  return [
    counter('nbdgate_requests_total', 'Requests that were passed on to the upstream.', requests),
    counter(
      'nbdgate_requests_refused_total',
      'Requests that the gateway answered with an error itself.',
      of(each => each.counts.refused),
    ),
    counter('nbdgate_payload_bytes_total', 'Bytes that READs have asked for and WRITEs have brought.', bytes),
    gauge(
      'nbdgate_requests_in_flight',
      'Requests that the upstream has not answered yet.',
      of(each => each.inFlight),
    ),
    counter(
      'nbdgate_throttle_waits_total',
      'Times that a session had to wait for its rate limit.',
      of(each => each.meter.waits),
    ),
    counter(
      'nbdgate_throttle_wait_seconds_total',
      'How long sessions had to wait for their rate limit.',
      of(each => each.meter.waitMs / 1000),
    ),
    gauge(
      'nbdgate_unflushed_bytes',
      'Bytes that upstreams have acknowledged and may still lose, at most.',
      of(each => each.uses.reduce((total, { relay }) => total + (relay.keep?.unflushed.bytes ?? 0), 0)),
    ),
    counter(
      'nbdgate_flush_lost_bytes_total',
      'Bytes that were acknowledged and gone when the upstream came back, at most.',
      of(each => each.meter.lostBytes),
    ),
    counter(
      'nbdgate_flushes_failed_total',
      'FLUSHes that the gateway answered with an error for what an upstream has lost.',
      of(each => each.meter.flushesFailed),
    ),
    counter(
      'nbdgate_requests_sent_again_total',
      'Requests that were sent again to an upstream that was away.',
      of(each => each.meter.sentAgain),
    ),
  ]
}

function timeFamilies(totals: readonly ExportTotals[]): readonly MetricFamily[] {
  const upstream = totals.flatMap(({ name, meter }) =>
    REQUEST_KINDS.map(kind => [meter.upstream[kind], { export: name, kind }] as const),
  )
  const own = HANDOVERS.map(direction => {
    const all = new Histogram()
    for (const { meter } of totals) all.add(meter.own[direction])
    return [all, { direction }] as const
  })
  return [
    histogram(
      'nbdgate_upstream_latency_seconds',
      'From passing a request on to its last reply; of reads and writes one in eight is timed.',
      upstream,
    ),
    histogram(
      'nbdgate_gateway_latency_seconds',
      'From taking something in to handing it to the other side: the own share. One in sixteen is timed.',
      own,
    ),
  ]
}

function processFamilies(): readonly MetricFamily[] {
  const { user, system } = process.cpuUsage()
  const timers = process.getActiveResourcesInfo().filter(kind => kind === 'Timeout').length
  return [
    counter('nbdgate_process_cpu_seconds_total', 'Processor time.', [[(user + system) / 1e6]]),
    gauge('nbdgate_process_resident_memory_bytes', 'Resident memory.', [[process.memoryUsage.rss()]]),
    gauge('nbdgate_timers', 'Timers that are set.', [[timers]]),
    gauge('nbdgate_processes', 'Processes of the gateway that have told of themselves.', [[1]]),
  ]
}
