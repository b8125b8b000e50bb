import { readFileSync } from 'node:fs'
import { expect, it } from 'vitest'
import { parseConfig } from '../../../src/config/load.ts'
import { createOverview } from '../../../src/gateway/overview.ts'
import { ProcessMemory } from '../../../src/gateway/process-memory.ts'
import { NO_AUDIT } from '../../../src/observe/audit.ts'
import { Telemetry } from '../../../src/observe/telemetry.ts'

const file = (name: string) => readFileSync(new URL(`../../../${name}`, import.meta.url), 'utf8')

/** The names of all metrics that there can be. */
async function metricNames(): Promise<ReadonlySet<string>> {
  const text = JSON.stringify({ version: 1, doors: [{ unix: 's' }], exports: [] })
  const config = parseConfig(text, '/nbdgate.yaml')
  const telemetry = new Telemetry()
  const overview = createOverview({
    config: () => config,
    published: () => config.exports,
    sessions: async () => [],
    leases: () => [],
    connections: () => 0,
    audit: { ...NO_AUDIT, state: () => ({ failing: false, waiting: 0, lost: 0 }) },
    doors: () => [],
    isDraining: () => false,
    lastReload: () => undefined,
    gather: async () => [[...telemetry.families(), ...new ProcessMemory(1).families()]],
    traffic: async () => [],
    regions: async () => [],
    workers: 0,
  })
  const families = (await overview.metrics()).flat()
  const series = families.flatMap(({ name, type }) =>
    type === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name],
  )
  return new Set(series)
}

const named = (text: string) => [...new Set([...text.matchAll(/\bnbdgate_[a-z][a-z0-9_]*/g)].map(([name]) => name))]

it.each(['config/grafana/nbdgate.json', 'config/prometheus/alerts.yaml'])('%s names metrics that exist', async name => {
  const names = await metricNames()
  const used = named(file(name))
  expect(used.length).toBeGreaterThan(8)
  expect(used.filter(each => !names.has(each))).toEqual([])
})

it('README names each metric, and none that does not exist', async () => {
  const names = await metricNames()
  const families = new Set([...names].map(name => name.replace(/_(bucket|sum|count)$/, '')))
  const used = named(file('README.md'))
  expect(used.filter(each => !names.has(each) && !families.has(each))).toEqual([])
  expect([...families].filter(each => !used.includes(each))).toEqual([])
})

it('metrics are named as Prometheus wants it', async () => {
  const telemetry = new Telemetry()
  for (const { name, type, help } of [...telemetry.families(), ...new ProcessMemory(1).families()]) {
    expect(name).toMatch(/^nbdgate_[a-z0-9_]+$/)
    expect([name, name.endsWith('_total')]).toEqual([name, type === 'counter'])
    expect(help).toMatch(/^[A-Z0-9].*\.$/)
  }
})

it('the dashboard loads in Grafana: panels of their own place and number, queries of the chosen source', () => {
  const { panels, templating, uid, schemaVersion } = JSON.parse(file('config/grafana/nbdgate.json'))
  expect([uid, schemaVersion]).toEqual(['nbdgate', 39])
  const places: string[] = panels.map(({ gridPos: { x, y } }: { gridPos: { x: number; y: number } }) => `${x} ${y}`)
  expect(new Set(places).size).toBe(panels.length)
  expect(new Set(panels.map(({ id }: { id: number }) => id)).size).toBe(panels.length)
  interface Place {
    readonly x: number
    readonly y: number
    readonly w: number
    readonly h: number
  }
  const cells = panels.flatMap(({ gridPos: { x, y, w, h } }: { gridPos: Place }) => {
    expect([x >= 0, y >= 0, w > 0, h > 0, x + w <= 24]).not.toContain(false)
    return Array.from({ length: w * h }, (_, at) => `${x + (at % w)} ${y + Math.floor(at / w)}`)
  })
  expect(new Set(cells).size).toBe(cells.length)
  expect(templating.list[0]).toMatchObject({ name: 'datasource', type: 'datasource', query: 'prometheus' })
  const source = { type: 'prometheus', uid: '$' + '{datasource}' }
  for (const { name, datasource } of templating.list.slice(1)) expect([name, datasource]).toEqual([name, source])
  for (const { type, title, datasource } of panels) {
    expect([title, datasource]).toEqual([title, type === 'row' ? undefined : source])
  }
  const queries = panels.flatMap(({ targets }: { targets?: unknown[] }) => targets ?? [])
  expect(queries.length).toBeGreaterThan(20)
  for (const { datasource } of queries) expect(datasource).toEqual({ type: 'prometheus', uid: '$' + '{datasource}' })
})
