// What a running gateway counts, and what it takes of the system, whatever it consists of.

import type { RunningGateway } from '../support/gateway.ts'
import { childrenOf, openFds, rssKiB } from '../support/procfs.ts'
import type { Entry } from './configs.ts'

/** For a configuration whose gateway is to be scraped. */
export const SCRAPED: Entry = { admin: { http: '127.0.0.1:0' } }

/** The metrics of a gateway with SCRAPED. */
export async function scrape(gateway: RunningGateway): Promise<string> {
  const { address } = await gateway.waitForLog(({ msg }) => msg === 'admin http ready')
  return await (await fetch(`http://${address}/metrics`)).text()
}

/** The value of a series; undefined if it is not there. */
export function seriesOf(metrics: string, series: string): number | undefined {
  const line = metrics.split('\n').find(each => each.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.slice(series.length))
}

/** The gateway and its workers. */
export function familyOf({ pid }: RunningGateway): readonly number[] {
  return [pid, ...childrenOf(pid)]
}

/** Resident memory of all of them, in MiB. */
export function rssMiB(gateway: RunningGateway): number {
  return familyOf(gateway).reduce((sum, pid) => sum + rssKiB(pid), 0) / 1024
}

/** Descriptors of all of them. */
export function fdsOf(gateway: RunningGateway): number {
  return familyOf(gateway).reduce((sum, pid) => sum + openFds(pid), 0)
}
