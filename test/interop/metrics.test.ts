// What can be seen of a running gateway over HTTP: metrics, health, events; and what promtool says of it.
import { once } from 'node:events'
import { writeFile } from 'node:fs/promises'
import { type IncomingMessage, request } from 'node:http'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { Opt } from '../../src/protocol/constants.ts'
import { seededFile } from '../support/disk.ts'
import { test } from '../support/fixtures.ts'
import { MAIN, type RunningGateway } from '../support/gateway.ts'
import { run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { freePort, waitFor } from '../support/wait.ts'
import { allow, config, nbdsUri, tcpDoor, tlsDoor } from './configs.ts'
import { greeted, infoData } from './raw-client.ts'

const HOST = '127.0.0.1'
const TOKEN = '0123456789abcdef0123456789abcdef'

interface Answer {
  readonly status: number
  readonly headers: IncomingMessage['headers']
  readonly body: string
}

async function get(port: number, path: string, headers: Record<string, string> = {}, method = 'GET'): Promise<Answer> {
  const [response]: IncomingMessage[] = await once(
    request({ host: HOST, port, path, headers, method }).end(),
    'response',
  )
  if (response === undefined) throw new Error('no answer')
  return { status: response.statusCode ?? 0, headers: response.headers, body: await text(response) }
}

async function httpPort(gateway: RunningGateway): Promise<number> {
  const { address } = await gateway.waitForLog(({ msg }) => msg === 'admin http ready')
  return Number(String(address).split(':').at(-1))
}

/** The value of a series; undefined if it is not there. */
function seriesOf(metrics: string, series: string): number | undefined {
  const line = metrics.split('\n').find(each => each.startsWith(`${series} `))
  return line === undefined ? undefined : Number(line.slice(series.length))
}

const http = { http: '127.0.0.1:0' }

requires(
  'nbd-server',
  'nbdcopy',
  'nbdinfo',
  'promtool',
)('metrics', () => {
  test('metrics tell what has moved and who was refused, in a form that promtool likes', async ({
    dir,
    pki,
    nbdServer,
    gateway,
  }) => {
    const sizeBytes = 4 * 1024 * 1024
    const server = await nbdServer({
      exports: { disk: { file: await seededFile(join(dir, 'disk.img'), 4), flush: true } },
    })
    const exports = [
      { name: 'disk', upstream: server.uri('disk'), allow: [allow('alice', 'write')], limits: { sessions: 9 } },
    ]
    const running = await gateway(config([tlsDoor(pki)], exports, { admin: http, state: join(dir, 'state') }))
    const port = await httpPort(running)
    const uri = nbdsUri(running.port('tls'), 'disk', pki.alice)
    await runOk(['nbdcopy', '--connections=2', uri, 'null:'])
    await runOk(['nbdcopy', '--connections=1', '--flush', join(dir, 'disk.img'), uri])
    expect((await run(['nbdinfo', nbdsUri(running.port('tls'), 'nix', pki.alice)])).code).not.toBe(0)
    const ended = () => running.log().filter(({ msg }) => msg === 'session ended').length
    await waitFor('the sessions have ended', () => ended() === 3)

    const { body, headers } = await get(port, '/metrics')
    expect(headers['content-type']).toBe('text/plain; version=0.0.4; charset=utf-8')
    const checked = await run(['promtool', 'check', 'metrics'], { input: body })
    expect(checked).toMatchObject({ code: 0, stdout: '', stderr: '' })
    expect(seriesOf(body, 'nbdgate_payload_bytes_total{export="disk",direction="read"}')).toBe(sizeBytes)
    expect(seriesOf(body, 'nbdgate_payload_bytes_total{export="disk",direction="write"}')).toBe(sizeBytes)
    expect(seriesOf(body, 'nbdgate_requests_total{export="disk",kind="flush"}')).toBeGreaterThan(0)
    expect(seriesOf(body, 'nbdgate_upstream_latency_seconds_count{export="disk",kind="flush"}')).toBeGreaterThan(0)
    expect(seriesOf(body, 'nbdgate_sessions_opened_total{export="disk"}')).toBe(3)
    expect(seriesOf(body, 'nbdgate_sessions{export="disk",rights="write"}')).toBe(0)
    expect(seriesOf(body, 'nbdgate_sessions_ended_total{why="disconnected"}')).toBe(3)
    expect(seriesOf(body, 'nbdgate_refusals_total{stage="export",reason="no such export"}')).toBeGreaterThan(0)
    expect(seriesOf(body, 'nbdgate_export_sessions_limit{export="disk"}')).toBe(9)
    expect(seriesOf(body, 'nbdgate_audit_failing')).toBe(0)
    const expiry = `nbdgate_key_material_expiry_timestamp_seconds{use="server",file="${pki.server.cert}"}`
    expect(seriesOf(body, expiry)).toBeGreaterThan(Date.now() / 1000)
    expect(body).toMatch(
      /^nbdgate_build_info\{version="[\d.]+",node="[\d.]+",openssl="[^"]+",ssh_native_crypto="(true|false)"\} 1$/m,
    )
    // Whether the upstream answers is found out beside a scrape, for the next one.
    await waitFor('the upstream was asked', async () => {
      return seriesOf((await get(port, '/metrics')).body, 'nbdgate_upstream_up{export="disk"}') === 1
    })
  })
})

requires('nbdkit')('readiness', () => {
  test('readiness says which upstream is missing, and of which export', async ({ dir, nbdkit, gateway }) => {
    const [file, absent] = [await seededFile(join(dir, 'disk.img'), 1), await freePort()]
    const anyone = [{ who: 'anyone', rights: 'read' }]
    const exports = [
      { name: 'here', upstream: `nbd+unix:///?socket=${await nbdkit('memory', '1M')}`, allow: anyone },
      { name: 'file', upstream: { file }, allow: anyone },
      { name: 'gone', upstream: `nbd://${HOST}:${absent}/x`, allow: anyone },
    ]
    const socket = join(dir, 'admin.sock')
    const running = await gateway(config([tcpDoor()], exports, { admin: { ...http, socket } }))
    const port = await httpPort(running)
    const ready = async (path: string) => {
      const { status, body } = await get(port, path)
      return [status, JSON.parse(body)]
    }
    expect(await ready('/readyz')).toEqual([
      503,
      {
        ready: false,
        checks: [
          { name: 'doors', ok: true, problems: [] },
          { name: 'upstreams', ok: false, problems: [`gone: nbd://${HOST}:${absent}/x: ECONNREFUSED`] },
          { name: 'certificates', ok: true, problems: [] },
          { name: 'audit trail', ok: true, problems: [] },
        ],
      },
    ])
    expect(await ready('/readyz?export=here&export=file')).toMatchObject([200, { ready: true }])
    expect(await ready('/readyz?export=gone')).toMatchObject([503, { ready: false }])
    expect(await ready('/readyz?export=nix')).toMatchObject([
      503,
      { checks: [{}, { problems: ['nix: there is no such export'] }, {}, {}] },
    ])
    expect((await get(port, '/healthz')).body).toBe('ok\n')
    const states = JSON.parse((await get(port, '/v1/exports')).body).exports
    expect(states.map((each: { upstreamState: unknown }) => each.upstreamState)).toEqual(['up', 'up', 'down'])

    // Draining: balancers send nobody here any more, while those who are in go on.
    const client = await greeted({ host: HOST, port: running.port('tcp') })
    await client.option(Opt.GO, infoData('here'))
    await runOk([process.execPath, MAIN, 'drain', '--socket', socket])
    expect(await ready('/readyz?export=here')).toMatchObject([
      503,
      { checks: [{ name: 'doors', problems: ['the gateway is draining'] }, {}, {}, {}] },
    ])
    await client.disconnect()
    expect(await running.waitForExit()).toMatchObject({ code: 0 })
  })
})

test('an upstream that says nothing is not ready, and is not waited for', async ({ gateway }) => {
  const silent = createServer().listen(0, HOST)
  await once(silent, 'listening')
  try {
    const address = silent.address()
    const upstream = `nbd://${HOST}:${typeof address === 'object' ? address?.port : 0}/x`
    const exports = [{ name: 'x', upstream, allow: [{ who: 'anyone', rights: 'read' }] }]
    const port = await httpPort(await gateway(config([tcpDoor()], exports, { admin: http })))
    const { status, body } = await get(port, '/readyz')
    expect([status, JSON.parse(body).checks[1].problems]).toEqual([503, [`x: ${upstream}: TIMEOUT`]])
  } finally {
    silent.close()
  }
})

test('http only looks, with a token where there is one', async ({ dir, gateway }) => {
  const file = await seededFile(join(dir, 'disk.img'), 1)
  const tokenFile = join(dir, 'token')
  await writeFile(tokenFile, `${TOKEN}\n`, { mode: 0o600 })
  const exports = [{ name: 'disk', upstream: { file }, allow: [{ who: 'anyone', rights: 'write' }] }]
  const admin = { http: '0.0.0.0:0', 'token-file': tokenFile }
  const running = await gateway(config([tcpDoor()], exports, { admin }))
  const port = await httpPort(running)
  const client = await greeted({ host: HOST, port: running.port('tcp') })
  await client.option(Opt.GO, infoData('disk'))
  const known = { authorization: `Bearer ${TOKEN}`, host: 'gateway.example:9180' }
  expect(await get(port, '/v1/sessions')).toMatchObject({ status: 401 })
  expect(await get(port, '/v1/sessions', { authorization: `Bearer ${TOKEN}x` })).toMatchObject({ status: 401 })
  expect(await get(port, '/healthz')).toMatchObject({ status: 200, body: 'ok\n' })
  expect(JSON.parse((await get(port, '/readyz')).body)).toEqual({ ready: true })
  const { sessions } = JSON.parse((await get(port, '/v1/sessions', known)).body)
  expect(sessions).toMatchObject([{ id: 1, export: 'disk' }])
  expect(await get(port, '/v1/sessions/1', known, 'DELETE')).toMatchObject({ status: 404 })
  expect(await get(port, '/v1/drain', known, 'POST')).toMatchObject({ status: 404 })
  expect(running.stderr()).not.toContain(TOKEN)
  await client.disconnect()
})

test('a token that can not be used is a mistake in the configuration', async ({ dir }) => {
  const file = join(dir, 'n.yaml')
  const tokenFile = join(dir, 'token')
  await writeFile(tokenFile, 'short\n')
  await writeFile(file, config([tcpDoor()], [], { admin: { http: '0.0.0.0:0', 'token-file': tokenFile } }))
  for (const command of [
    ['check', file],
    ['serve', '--config', file],
  ]) {
    const { code, stderr } = await run([process.execPath, MAIN, ...command])
    expect([code, stderr]).toEqual([2, expect.stringMatching(/n\.yaml:\d+:\d+: .*a token has at least 16 characters/)])
  }
})

test('events tell who comes, goes and is refused, and a listener that does not read costs nothing', async ({
  dir,
  gateway,
}) => {
  const file = await seededFile(join(dir, 'disk.img'), 1)
  const exports = [{ name: 'disk', upstream: { file }, allow: [{ who: 'anyone', rights: 'write' }] }]
  const running = await gateway(config([tcpDoor()], exports, { admin: http }))
  const port = await httpPort(running)
  const deaf = connect(port, HOST)
  deaf.pause()
  deaf.write('GET /v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n')
  const [response]: IncomingMessage[] = await once(request({ host: HOST, port, path: '/v1/events' }).end(), 'response')
  if (response === undefined) throw new Error('no answer')
  let seen = ''
  response.setEncoding('utf8').on('data', chunk => (seen += chunk))
  await waitFor('the stream has begun', () => seen !== '')
  const visit = async (name: string): Promise<void> => {
    const client = await greeted({ host: HOST, port: running.port('tcp') })
    await client.option(Opt.GO, infoData(name))
    await client.disconnect()
  }
  await visit('disk')
  await visit('nix')
  await waitFor('all was told', () => /event: ended/.test(seen) && /event: refused/.test(seen))
  const kinds = [...seen.matchAll(/^event: (\w+)$/gm)].map(([, kind]) => kind)
  expect(kinds.toSorted()).toEqual(['ended', 'lease', 'lease', 'opened', 'refused'])
  const refused = /^event: refused\ndata: (.*)$/m.exec(seen)?.[1] ?? ''
  expect(JSON.parse(refused)).toMatchObject({ what: 'refused', facts: { export: 'nix', reason: 'no such export' } })
  deaf.destroy()
  response.destroy()
})

requires('promtool')('alerts', () => {
  test('the alerts do what they say', async ({ dir }) => {
    const rules = fileURLToPath(new URL('../../config/prometheus/alerts.yaml', import.meta.url))
    expect(await run(['promtool', 'check', 'rules', rules])).toMatchObject({ code: 0 })
    const at = 'instance="gw:9180",job="nbdgate"'
    /** How many alerts of a name fire when the series have gone so (a value a minute) for so long. */
    const fires = (alert: string, count: number, series: Readonly<Record<string, string>>, minutes = 20) => ({
      interval: '1m',
      input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
      promql_expr_test: [
        {
          expr: `count(ALERTS{alertname="Nbdgate${alert}",alertstate="firing"}) or vector(0)`,
          eval_time: `${minutes}m`,
          exp_samples: [{ labels: '{}', value: count }],
        },
      ],
    })
    const soon = `nbdgate_key_material_expires_soon{${at},use="crl",file="/c.pem"}`
    const [reads, writes] = ['read', 'write'].map(each => `nbdgate_sessions{${at},export="disk",rights="${each}"}`)
    const limit = `nbdgate_export_sessions_limit{${at},export="disk"}`
    const refusals = `nbdgate_refusals_total{${at},stage="tls",reason="revoked"}`
    const [connections, most] = [`nbdgate_connections{${at}}`, `nbdgate_connections_limit{${at}}`]
    const losses = `nbdgate_flush_losses_total{${at},export="disk"}`
    const tests = [
      fires('KeyMaterialExpires', 1, { [soon]: '1x30' }),
      fires('KeyMaterialExpires', 0, { [soon]: '0x30' }),
      fires('UpstreamDown', 1, { [`nbdgate_upstream_up{${at},export="disk"}`]: '0x30' }),
      fires('UpstreamDown', 0, { [`nbdgate_upstream_up{${at},export="disk"}`]: '1x19 0x10' }),
      fires('ExportSessionsNearLimit', 1, { [`${reads}`]: '5x30', [`${writes}`]: '5x30', [limit]: '10x30' }),
      fires('ExportSessionsNearLimit', 0, { [`${reads}`]: '4x30', [`${writes}`]: '4x30', [limit]: '10x30' }),
      fires('ConnectionsNearLimit', 1, { [connections]: '950x30', [most]: '1000x30' }),
      fires('RefusalsSpike', 1, { [refusals]: '0+60x30' }, 9),
      fires('RefusalsSpike', 0, { [refusals]: '0+60x600' }, 590),
      fires('AuditFailing', 1, { [`nbdgate_audit_failing{${at}}`]: '1x30' }),
      fires('SshWithoutNativeCrypto', 1, { [`nbdgate_ssh_native_crypto{${at}}`]: '0x30' }),
      fires('FlushLoss', 1, { [losses]: '0x15 1x15' }),
      fires('FlushLoss', 0, { [losses]: '0x30' }),
      fires('WorkerDied', 1, { [`nbdgate_worker_restarts_total{${at}}`]: '0x15 1x15' }),
      fires('WorkerDied', 0, { [`nbdgate_worker_restarts_total{${at}}`]: '3x30' }),
    ]
    const file = join(dir, 'alerts.test.yaml')
    await writeFile(file, JSON.stringify({ rule_files: [rules], evaluation_interval: '1m', tests }))
    const { code, stdout, stderr } = await run(['promtool', 'test', 'rules', file])
    expect([code, stdout, stderr]).toEqual([0, expect.stringContaining('SUCCESS'), ''])
  })
})
