// What a running gateway says of itself, and what it takes of the system, whatever it consists of.
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { text } from 'node:stream/consumers'
import type { RunningGateway } from '../support/gateway.ts'
import { childrenOf, openFds, rssKiB } from '../support/procfs.ts'
import { waitFor } from '../support/wait.ts'
import type { Entry } from './configs.ts'

/** For a configuration whose gateway is to be scraped. */
export const SCRAPED: Entry = { admin: { http: '127.0.0.1:0' } }

/** What a gateway with SCRAPED answers; nothing of the connection is left. */
async function get(gateway: RunningGateway, path: string): Promise<string> {
  const { address } = await gateway.waitForLog(({ msg }) => msg === 'admin http ready')
  const [response]: IncomingMessage[] = await once(
    request(`http://${address}${path}`, { agent: false }).end(),
    'response',
  )
  if (response?.statusCode !== 200) throw new Error(`${path}: ${response?.statusCode}`)
  return await text(response)
}

/** The metrics of a gateway with SCRAPED. */
export async function scrape(gateway: RunningGateway): Promise<string> {
  return await get(gateway, '/metrics')
}

/** The value of a series; undefined if it is not there. */
export function seriesOf(metrics: string, series: string): number | undefined {
  const line = metrics.split('\n').find(each => each.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.slice(series.length))
}

/** Resident memory of the gateway and its workers, in MiB. */
export function rssMiB(gateway: RunningGateway): number {
  return familyOf(gateway.pid).reduce((sum, pid) => sum + rssKiB(pid), 0) / 1024
}

/** What a gateway, its workers and what they have started hold for those who are there. */
export interface Holdings {
  readonly processes: number
  readonly descriptors: number
  readonly timers: number
  readonly connections: number
  readonly inFlightBytes: number
  readonly sessions: number
  readonly leases: number
}

/** What a gateway with SCRAPED holds now. */
export async function holdingsOf(gateway: RunningGateway): Promise<Holdings> {
  const metrics = await scrape(gateway)
  const value = (series: string): number => seriesOf(metrics, series) ?? Number.NaN
  const { sessions } = JSON.parse(await get(gateway, '/v1/sessions'))
  const { leases } = JSON.parse(await get(gateway, '/v1/leases'))
  const family = familyOf(gateway.pid)
  return {
    processes: family.length,
    descriptors: family.reduce((sum, pid) => sum + openFds(pid), 0),
    timers: value('nbdgate_timers'),
    connections: value('nbdgate_connections'),
    inFlightBytes: value('nbdgate_in_flight_bytes'),
    sessions: sessions.length,
    leases: leases.length,
  }
}

/** Waits until a gateway holds no more of anything than it did before. Rejects with what it holds. */
export async function nothingLeft(gateway: RunningGateway, before: Holdings): Promise<void> {
  let now = before
  const isBack = async (): Promise<boolean> => {
    now = await holdingsOf(gateway)
    return Object.entries(before).every(([what, held]) => Number(Reflect.get(now, what)) <= Number(held))
  }
  const describe = (): string => `before: ${JSON.stringify(before)}\nnow:    ${JSON.stringify(now)}`
  await waitFor('nothing left behind', isBack, { describe })
}

/** A process and all that have come of it. */
function familyOf(pid: number): readonly number[] {
  return [pid, ...childrenOf(pid).flatMap(familyOf)]
}
