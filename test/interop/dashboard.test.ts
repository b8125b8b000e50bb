// The dashboard and the alerts beside a real Prometheus that scrapes a gateway at work: whether each query can be evaluated,
// finds something, and has the labels that its legend names. Grafana itself is no package of Debian.
import { readFileSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import * as z from 'zod'
import { Cmd, Opt } from '../../src/protocol/constants.ts'
import { seededFile } from '../support/disk.ts'
import { test } from '../support/fixtures.ts'
import { run, start } from '../support/process.ts'
import { startPrometheus } from '../support/prometheus.ts'
import { requires } from '../support/requires.ts'
import { startNbdkit } from '../support/servers.ts'
import { freePort, waitFor } from '../support/wait.ts'
import { config, tcpDoor, tlsDoor } from './configs.ts'
import { greeted, infoData } from './raw-client.ts'

const HOST = '127.0.0.1'
const path = (name: string): string => fileURLToPath(new URL(`../../config/${name}`, import.meta.url))
const ALERTS = path('prometheus/alerts.yaml')

const dashboard = z
  .object({
    panels: z.array(
      z.object({
        title: z.string(),
        targets: z.array(z.object({ expr: z.string(), legendFormat: z.string() })).default([]),
      }),
    ),
    templating: z.object({ list: z.array(z.object({ name: z.string(), definition: z.string().optional() })) }),
  })
  .parse(JSON.parse(readFileSync(path('grafana/nbdgate.json'), 'utf8')))

/** An expression with its variables as Grafana fills them in for `All`. */
const filled = (expr: string): string =>
  expr.replaceAll('$instance', '.*').replaceAll('$export', '.*').replaceAll('$__rate_interval', '30s')

const queries = dashboard.panels.flatMap(({ title, targets }) =>
  targets.map(({ expr, legendFormat }) => ({
    title,
    expr: filled(expr),
    labels: [...legendFormat.matchAll(/\{\{(\w+)\}\}/g)].map(([, label = '']) => label),
  })),
)

/** Queries of a title that must have seen more than nothing, by a part of their expression. */
const MOVED: readonly string[] = [
  'direction="read"',
  'direction="write"',
  'nbdgate_requests_total',
  'nbdgate_requests_refused_total',
  'nbdgate_throttle_waits_total',
  'nbdgate_throttle_wait_seconds_total',
  'nbdgate_upstream_latency_seconds_bucket',
  'nbdgate_gateway_latency_seconds_bucket',
  'nbdgate_sessions_opened_total',
  'nbdgate_sessions_ended_total',
  'nbdgate_refusals_total',
  'nbdgate_upstream_failures_total',
  'nbdgate_upstream_reconnects_total',
  'nbdgate_flush_losses_total',
  'nbdgate_log_lines_total',
  'nbdgate_reloads_total',
  'nbdgate_process_cpu_seconds_total',
]

requires(
  'prometheus',
  'nbdkit',
  'nbdinfo',
  'fio',
)('the dashboard', () => {
  test('each query finds what it is to show, and each alert can be evaluated', async ({
    gateway,
    dir,
    pki,
    onTestFinished,
  }) => {
    const disk = await seededFile(join(dir, 'disk.img'), 16)
    const anyone = (rights: string) => [{ who: 'anyone', rights }]
    const server = async () => await startNbdkit(dir, 'kit', ['memory', '1M'])
    const { socket, process: first } = await server()
    const exports = [
      {
        name: 'disk',
        upstream: { file: disk },
        allow: anyone('write'),
        sharing: 'cluster',
        limits: { sessions: 9, iops: 200 },
      },
      { name: 'memory', upstream: `nbd+unix:///?socket=${socket}`, allow: anyone('write') },
      { name: 'shown', upstream: { file: disk }, allow: anyone('read') },
      { name: 'gone', upstream: `nbd://${HOST}:${await freePort()}/x`, allow: anyone('read') },
    ]
    const more = { admin: { http: `${HOST}:0` }, state: join(dir, 'state') }
    const text = config([tcpDoor(), tlsDoor(pki)], exports, more)
    const running = await gateway(text)
    const port = running.port('tcp')
    const { address } = await running.waitForLog(({ msg }) => msg === 'admin http ready')
    const prometheus = await startPrometheus(dir, String(address), [ALERTS])
    onTestFinished(async () => void (await prometheus.process.stop()))
    const build = async () => await prometheus.query('count_over_time(nbdgate_build_info[1m]) >= 2')
    // Rates need a point from before.
    await waitFor('two scrapes', async () => (await build()).length > 0)

    const job = ['fio', '--name=j', '--ioengine=nbd', `--uri=nbd://${HOST}:${port}/disk`, '--bs=4k', '--rw=randrw']
    const fio = await start([...job, '--size=8m', '--iodepth=8', '--time_based', '--runtime=60', '--fsync=50'], {
      ready: () => true,
      cwd: dir,
    })
    onTestFinished(async () => void (await fio.stop()))
    for (const name of ['nix', 'gone']) await run(['nbdinfo', `nbd://${HOST}:${port}/${name}`])
    const reader = await greeted({ host: HOST, port })
    await reader.option(Opt.GO, infoData('shown'))
    reader.request(Cmd.WRITE, 1n, 0n, 512, Buffer.alloc(512))
    await reader.simpleReply()
    await reader.disconnect()
    // A server that dies with what it has acknowledged, and comes back.
    const writer = await greeted({ host: HOST, port })
    await writer.option(Opt.GO, infoData('memory'))
    writer.request(Cmd.WRITE, 1n, 0n, 512, Buffer.alloc(512))
    await writer.simpleReply()
    first.kill('SIGKILL')
    await first.waitForExit()
    await running.waitForLog(({ msg }) => msg === 'upstream lost')
    for (const left of ['kit.sock', 'kit.pid']) await rm(join(dir, left), { force: true })
    const { process: second } = await server()
    onTestFinished(async () => void (await second.stop()))
    await running.waitForLog(({ msg }) => msg === 'unflushed writes lost')
    await writeFile(
      running.configFile,
      readFileSync(running.configFile, 'utf8').replace('"sessions": 9', '"sessions": 8'),
    )
    await running.waitForLog(({ msg }) => msg === 'reloaded')

    const missing = async (): Promise<readonly string[]> => {
      const found = await Promise.all(
        queries.map(async each => ({ ...each, result: await prometheus.query(each.expr) })),
      )
      return found.flatMap(({ title, expr, labels, result }) => {
        const isToMove = MOVED.some(part => expr.includes(part))
        const isThere = isToMove ? result.some(({ value }) => value > 0) : result.length > 0
        const isNamed = result.every(({ metric }) => labels.every(label => metric[label] !== undefined))
        return isThere && isNamed ? [] : [`${title}: ${expr}`]
      })
    }
    let left: readonly string[] = []
    const isComplete = async (): Promise<boolean> => {
      left = await missing()
      return left.length === 0
    }
    await waitFor('results of all queries', isComplete, { describe: () => left.join('\n') })
    expect(queries.length).toBeGreaterThan(30)
    expect(MOVED.filter(part => !queries.some(({ expr }) => expr.includes(part)))).toEqual([])

    const known = await prometheus.metricNames()
    const used = queries.flatMap(({ expr }) => expr.match(/\bnbdgate_\w+/g) ?? [])
    expect([...new Set(used)].filter(name => !known.has(name))).toEqual([])
    for (const { name, definition = '' } of dashboard.templating.list.slice(1)) {
      const [, metric = '', label = ''] = /^label_values\((\w+), (\w+)\)$/.exec(definition) ?? []
      expect(label).toBe(name)
      expect(await prometheus.query(`count by (${label}) (${metric}{${label}!=""})`)).not.toEqual([])
    }
    const isEvaluated = async () => (await prometheus.rules()).every(({ health }) => health !== 'unknown')
    await waitFor('the rules were evaluated', isEvaluated)
    const rules = await prometheus.rules()
    expect(rules.length).toBeGreaterThan(10)
    expect(rules.filter(({ health }) => health !== 'ok')).toEqual([])
    // It can say no.
    await expect(prometheus.query('sum(nbdgate_sessions')).rejects.toThrow('parse error')
    expect(await prometheus.query('nbdgate_no_such_metric')).toEqual([])
  })
})
