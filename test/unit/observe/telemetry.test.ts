import { expect, it } from 'vitest'
import type { GatewayEvent } from '../../../src/observe/event-feed.ts'
import { metricsText } from '../../../src/observe/metrics.ts'
import { Telemetry } from '../../../src/observe/telemetry.ts'
import { keptLog } from './trail.ts'

const relay = (reads: number) => ({
  counters: { reads, writes: 0, flushes: 0, others: 0, refused: 0, bytesRead: reads * 512, bytesWritten: 0 },
  inFlight: 1,
})

/** The samples of a text whose line begins so. */
const lines = (text: string, begin: string) => text.split('\n').filter(line => line.startsWith(begin))
/** The same without those that nothing was counted of. */
const counted = (text: string, begin: string) => lines(text, begin).filter(line => !line.endsWith(' 0'))

it('puts what several processes have counted together', async () => {
  const processes = [3, 4].map(reads => {
    const telemetry = new Telemetry()
    telemetry.retain([{ name: 'disk' }])
    telemetry.meters.begin(relay(reads), { export: 'disk', rights: 'read', sizeBytes: 1024n })
    telemetry.meters.of('disk').upstream.read.observe(1)
    telemetry.hear(keptLog().log).warn({ reason: 'no rule' }, 'refused')
    // What goes from one process to another is text.
    return JSON.parse(JSON.stringify(telemetry.families()))
  })
  const text = await metricsText(processes)
  expect(lines(text, 'nbdgate_requests_total{export="disk",kind="read"}')).toEqual([
    'nbdgate_requests_total{export="disk",kind="read"} 7',
  ])
  expect(lines(text, 'nbdgate_sessions{')).toEqual([
    'nbdgate_sessions{export="disk",rights="read"} 2',
    'nbdgate_sessions{export="disk",rights="write"} 0',
  ])
  expect(counted(text, 'nbdgate_refusals_total{')).toEqual([
    'nbdgate_refusals_total{stage="export",reason="no rule"} 2',
  ])
  expect(lines(text, 'nbdgate_upstream_latency_seconds_count')).toEqual([
    'nbdgate_upstream_latency_seconds_count{export="disk",kind="read"} 2',
  ])
  expect(lines(text, 'nbdgate_upstream_latency_seconds_bucket').slice(4, 7)).toEqual([
    'nbdgate_upstream_latency_seconds_bucket{export="disk",kind="read",le="0.000512"} 0',
    'nbdgate_upstream_latency_seconds_bucket{export="disk",kind="read",le="0.001024"} 2',
    'nbdgate_upstream_latency_seconds_bucket{export="disk",kind="read",le="0.002048"} 2',
  ])
  expect(lines(text, 'nbdgate_processes')).toEqual(['nbdgate_processes 2'])
})

it('tells how many timers are set', () => {
  const telemetry = new Telemetry()
  const timers = (): number =>
    telemetry.families().find(({ name }) => name === 'nbdgate_timers')?.values[0]?.value ?? Number.NaN
  const before = timers()
  const set = [1, 2, 3].map(() => setTimeout(() => {}, 60_000))
  expect(timers()).toBe(before + 3)
  for (const each of set) clearTimeout(each)
  expect(timers()).toBe(before)
})

it('has a bound on its series, whatever peers send', async () => {
  const telemetry = new Telemetry()
  telemetry.retain([{ name: 'disk' }])
  const log = telemetry.hear(keptLog().log)
  for (let n = 0; n < 1000; n++) {
    log.warn({ reason: `new reason ${n}`, export: `name ${n}` }, 'refused')
    log.warn({ reason: `new reason ${n}`, user: `user ${n}` }, 'ssh login failed')
    log.error({ code: `E${n}`, export: `name ${n}` }, 'upstream failed')
    log.info({ why: `no longer allowed: rule ${n}`, export: `name ${n}`, lease: 'none' }, 'session ended')
    log.info({ why: `why ${n}`, export: `name ${n}`, lease: 'none' }, 'session ended')
  }
  const text = await metricsText([telemetry.families()])
  expect(counted(text, 'nbdgate_refusals_total{')).toEqual([
    'nbdgate_refusals_total{stage="export",reason="other"} 1000',
    'nbdgate_refusals_total{stage="ssh login",reason="other"} 1000',
  ])
  expect(counted(text, 'nbdgate_upstream_failures_total{')).toEqual([
    'nbdgate_upstream_failures_total{export="other",code="other"} 1000',
  ])
  expect(counted(text, 'nbdgate_sessions_ended_total{')).toEqual([
    'nbdgate_sessions_ended_total{why="no longer allowed"} 1000',
    'nbdgate_sessions_ended_total{why="other"} 1000',
  ])
})

it('has a series at 0 of all that is to be counted: what is counted first is an increase then', async () => {
  const telemetry = new Telemetry()
  telemetry.retain([{ name: 'disk' }, { name: 'listed', isListed: true }])
  const text = await metricsText([telemetry.families()])
  expect(lines(text, 'nbdgate_flush_losses_total{')).toEqual(['nbdgate_flush_losses_total{export="disk"} 0'])
  expect(lines(text, 'nbdgate_upstream_failures_total{')).toEqual(
    ['DIAL', 'HANDSHAKE', 'REFUSED', 'LOST', 'PROTOCOL'].map(
      code => `nbdgate_upstream_failures_total{export="disk",code="${code}"} 0`,
    ),
  )
  expect(lines(text, 'nbdgate_upstream_reconnects_total{')).toHaveLength(3)
  for (const series of [
    'nbdgate_refusals_total{stage="tls",reason="revoked"} 0',
    'nbdgate_sessions_ended_total{why="bug"} 0',
    'nbdgate_reloads_total{result="failed"} 0',
    'nbdgate_log_lines_total{level="error"} 0',
  ]) {
    expect(text.split('\n')).toContain(series)
  }
  expect(lines(text, 'nbdgate_refusals_total{').length).toBeLessThan(60)
  // An export that has gone leaves nothing where nothing was counted.
  telemetry.hear(keptLog().log).error({ export: 'disk' }, 'unflushed writes lost')
  telemetry.retain([{ name: 'other disk' }])
  const after = await metricsText([telemetry.families()])
  expect(lines(after, 'nbdgate_flush_losses_total{')).toEqual([
    'nbdgate_flush_losses_total{export="disk"} 1',
    'nbdgate_flush_losses_total{export="other disk"} 0',
  ])
  expect(lines(after, 'nbdgate_upstream_failures_total{export="disk"')).toEqual([])
})

it('counts an upstream that goes away as a failure of it', async () => {
  const telemetry = new Telemetry()
  telemetry.retain([{ name: 'disk' }])
  const log = telemetry.hear(keptLog().log)
  log.error({ export: 'disk', code: 'DIAL' }, 'upstream failed')
  log.info({ export: 'disk', why: 'upstream gone', lease: 'read' }, 'session ended')
  log.warn({ export: 'disk', why: 'upstream broke the protocol', lease: 'read' }, 'session ended')
  const text = await metricsText([telemetry.families()])
  expect(counted(text, 'nbdgate_upstream_failures_total{')).toEqual([
    'nbdgate_upstream_failures_total{export="disk",code="DIAL"} 1',
    'nbdgate_upstream_failures_total{export="disk",code="LOST"} 1',
    'nbdgate_upstream_failures_total{export="disk",code="PROTOCOL"} 1',
  ])
})

it('passes every line on, and tells of those that are events', () => {
  const telemetry = new Telemetry()
  const { log, lines: kept } = keptLog()
  const heard = telemetry.hear(log)
  const events: GatewayEvent[] = []
  heard.info({ conn: 1, lease: 'none' }, 'session opened')
  const unlisten = telemetry.events.listen(event => events.push(event))
  heard.debug({ conn: 2 }, 'visitor gone')
  heard.info({ conn: 2, lease: 'write' }, 'session opened')
  heard.warn({ conn: 3, reason: 'denied' }, 'refused')
  heard.info({ conn: 1, lease: 'none' }, 'session ended')
  unlisten()
  heard.warn({ conn: 4, reason: 'denied' }, 'refused')
  expect(kept.map(({ level, message }) => `${level} ${message}`)).toEqual([
    'info session opened',
    'debug visitor gone',
    'info session opened',
    'warn refused',
    'info session ended',
    'warn refused',
  ])
  expect(events.map(({ kind, facts }) => [kind, facts.conn])).toEqual([
    ['opened', 2],
    ['lease', 2],
    ['refused', 3],
    ['ended', 1],
  ])
})
