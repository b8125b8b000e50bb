// The page beside a gateway at work: real clients, and what is seen of them.
import { mkdir, rm } from 'node:fs/promises'
import { join } from 'node:path'
import type { Page } from 'playwright-core'
import { expect } from 'vitest'
import { writeAuthority, writeServer } from '../../src/pki/files.ts'
import { mintAuthority, mintServer } from '../../src/pki/mint.ts'
import { Opt } from '../../src/protocol/constants.ts'
import { config, tcpDoor } from '../interop/configs.ts'
import { greeted, infoData } from '../interop/raw-client.ts'
import { seededFile } from '../support/disk.ts'
import { run, start } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { startNbdkit } from '../support/servers.ts'
import { freePort } from '../support/wait.ts'
import { entered, pageConfig, pageUrl, test } from './ground.ts'

const HOST = '127.0.0.1'
const MARKUP = '<img src=x onerror=alert(1)><script>alert(2)</script>'

/** A row of a table, by a text in it. */
const row = (page: Page, section: string, text: string | RegExp) =>
  page.locator(`#${section} tbody tr`).filter({ hasText: text })

/** How many cells of the map are not as cold as at first. */
async function coloured(page: Page): Promise<number> {
  return await page.locator('.region-field canvas').evaluate(canvas => {
    if (!(canvas instanceof HTMLCanvasElement)) throw new TypeError('a canvas')
    const { data } = canvas.getContext('2d')?.getImageData(0, 0, canvas.width, canvas.height) ?? { data: [] }
    const colors = new Map<string, number>()
    for (let at = 0; at < data.length; at += 4) {
      const color = `${data[at]} ${data[at + 1]} ${data[at + 2]}`
      colors.set(color, (colors.get(color) ?? 0) + 1)
    }
    return colors.size
  })
}

requires(
  'chromium',
  'fio',
  'nbdinfo',
  'nbdkit',
)('the page of a gateway at work', () => {
  test('shows who is there, what they move and where, and who was refused, and offers nothing that changes anything', async ({
    gateway,
    dir,
    look,
  }) => {
    const file = await seededFile(join(dir, 'disk.img'), 64)
    const running = await gateway(
      pageConfig([
        { name: 'disk', description: 'lab', upstream: { file }, allow: [{ who: 'anyone', rights: 'write' }] },
      ]),
    )
    const uri = `nbd://${HOST}:${running.port('tcp')}`
    await run(['nbdinfo', `${uri}/early`])
    const { page, problems } = await look(await pageUrl(running))
    await page.getByText('nobody is on an export').waitFor()
    await row(page, 'refusals', 'early').filter({ hasText: 'no such export' }).first().waitFor()

    const job = ['fio', '--name=j', '--ioengine=nbd', `--uri=${uri}/disk`, '--bs=64k', '--time_based', '--runtime=60']
    const fio = await start([...job, '--rw=randrw', '--size=32m', '--rate=8m,8m'], { ready: () => true, cwd: dir })
    const session = row(page, 'sessions', 'address:127.0.0.1')
    await session.filter({ hasText: 'tcp' }).filter({ hasText: 'write' }).waitFor()
    await session.locator('td[data-head="Reads"]', { hasText: /MiB\/s/ }).waitFor()
    await session.locator('td[data-head="Writes"]', { hasText: /MiB\/s/ }).waitFor()
    expect(await page.getByRole('button', { name: /^End/ }).count()).toBe(0)
    expect(await session.locator('td[data-head="Who"]').getAttribute('title')).toMatch(/let in by nbdgate\.yaml:\d+/)
    await row(page, 'leases', 'disk').filter({ hasText: 'holds' }).waitFor()
    const listed = row(page, 'exports', 'disk')
    await listed.locator('.mark[data-kind="up"]').waitFor()
    await listed.locator('td[data-head="Latency"]', { hasText: /\d (µs|ms)/ }).waitFor()

    // Plots move: the words beneath say so, and the picture is another one each time.
    const plot = page.locator('.plot').first()
    await plot.locator('figcaption', { hasText: /read \d.*MiB\/s.*written \d.*MiB\/s/ }).waitFor()
    const picture = () =>
      plot.locator('canvas').evaluate(canvas => (canvas instanceof HTMLCanvasElement ? canvas.toDataURL() : ''))
    const before = await picture()
    await expect.poll(picture, { timeout: 20_000 }).not.toBe(before)

    // The first half of the disk is touched, the other is not.
    const words = page.locator('.regions .note')
    await words.filter({ hasText: /64 MiB in 1024 regions of 64 KiB, (4[5-9]|50) % touched/ }).waitFor()
    expect(await coloured(page)).toBeGreaterThan(5)

    // What a stranger asks for is text.
    await run(['nbdinfo', `${uri}/${encodeURIComponent(MARKUP)}`])
    await row(page, 'refusals', MARKUP).first().waitFor()
    await page.locator('#announcement', { hasText: `${MARKUP}: no such export` }).waitFor({ state: 'attached' })
    expect(await page.locator('main img, main script').count()).toBe(0)
    await fio.stop()
    await page.getByText('nobody is on an export').waitFor()
    expect(await problems()).toEqual([])
  })

  test('shows who waits for an export, and which certificate ends soon', async ({ gateway, dir, look }) => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    const authority = mintAuthority({ name: 'lab' })
    const { cert: ca } = writeAuthority(dir, authority)
    const { cert, key } = writeServer(dir, mintServer(authority, { names: ['localhost'], days: 3 }))
    const entry = {
      name: 'disk',
      upstream: { file },
      allow: [{ who: 'anyone', rights: 'write' }],
      'when-busy': 'wait=60s',
    }
    const doors = [tcpDoor(), { tls: `${HOST}:0`, cert, key, 'client-ca': ca }]
    const running = await gateway(config(doors, [entry], { admin: { http: `${HOST}:0` } }))
    const { page, problems } = await look(await pageUrl(running))
    const soon = row(page, 'certificates', 'server-cert.pem')
    await soon
      .filter({ hasText: 'ends soon' })
      .filter({ hasText: /in \d+ (d|h)/ })
      .waitFor()
    await page.locator('#alerts', { hasText: /server-cert\.pem ends on \d{4}-\d\d-\d\d/ }).waitFor()

    const holder = await entered(running.port('tcp'))
    await row(page, 'leases', 'address:127.0.0.1').filter({ hasText: 'holds' }).waitFor()
    const address = { host: HOST, port: running.port('tcp'), localAddress: '127.0.0.9' }
    const second = await greeted(address)
    const answer = second.option(Opt.GO, infoData('disk'))
    await row(page, 'leases', 'address:127.0.0.9').filter({ hasText: 'waits' }).waitFor()
    await page.locator('.tile', { hasText: 'Waiting' }).filter({ hasText: '1' }).waitFor()
    await holder.disconnect()
    await answer
    await row(page, 'leases', 'address:127.0.0.9').filter({ hasText: 'holds' }).waitFor()
    await row(page, 'leases', 'waits').waitFor({ state: 'detached' })
    expect(await problems()).toEqual([])
  })

  test('shows exports that an upstream lists, and what they move', async ({ gateway, nbdkit, dir, look }) => {
    const shelf = join(dir, 'shelf')
    await mkdir(shelf)
    for (const name of ['vm1', 'vm2']) await seededFile(join(shelf, name), 1)
    const from = `nbd+unix:///?socket=${await nbdkit('file', `dir=${shelf}`)}`
    const running = await gateway(
      pageConfig([{ name: 'lab-*', prefix: 'lab-', from, allow: [{ who: 'anyone', rights: 'read' }] }]),
    )
    const { page, problems } = await look(await pageUrl(running))
    await row(page, 'exports', 'lab-vm2').filter({ hasText: 'listed by its upstream' }).waitFor()
    const uri = `nbd://${HOST}:${running.port('tcp')}/lab-vm1`
    const job = ['fio', '--name=j', '--ioengine=nbd', `--uri=${uri}`, '--bs=64k', '--time_based', '--runtime=60']
    const fio = await start([...job, '--rw=randread', '--size=1m', '--rate=8m'], { ready: () => true, cwd: dir })
    const used = row(page, 'exports', 'lab-vm1')
    await used.locator('.mark[data-kind="up"]').waitFor()
    await used.locator('td[data-head="Reads"]', { hasText: /MiB\/s/ }).waitFor()
    await used.getByRole('button', { name: 'lab-vm1' }).click()
    await page
      .locator('.regions .note')
      .filter({ hasText: /1\.0 MiB in 1024 regions.* [1-9]\d* % touched/ })
      .waitFor()
    await page
      .locator('.plot figcaption', { hasText: /read \d.*MiB\/s/ })
      .first()
      .waitFor()
    await fio.stop()
    expect(await problems()).toEqual([])
  })

  test('shows which session waits for an upstream that has died', async ({ gateway, dir, look, onTestFinished }) => {
    const startServer = () => startNbdkit(dir, 'server', ['memory', '1M'])
    const { socket, process: server } = await startServer()
    const upstream = `nbd+unix:///?socket=${socket}`
    const running = await gateway(pageConfig([{ name: 'disk', upstream, allow: [{ who: 'anyone', rights: 'write' }] }]))
    await entered(running.port('tcp'))
    const { page } = await look(await pageUrl(running))
    await row(page, 'exports', 'disk').locator('[data-kind="up"]').waitFor()
    server.kill('SIGKILL')
    await server.waitForExit()
    await row(page, 'sessions', 'waits for its upstream').waitFor()
    await row(page, 'exports', 'disk').locator('[data-kind="down"]').waitFor()
    await page.locator('#alerts', { hasText: 'does not answer' }).waitFor()
    for (const left of ['server.sock', 'server.pid']) await rm(join(dir, left), { force: true })
    const { process: next } = await startServer()
    onTestFinished(async () => void (await next.stop()))
    await row(page, 'sessions', 'waits for its upstream').waitFor({ state: 'detached' })
    await row(page, 'exports', 'disk').locator('[data-kind="up"]').waitFor()
  })

  test('says that the gateway has gone, and goes on when it is back', async ({ gateway, dir, look }) => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    const admin = { http: `${HOST}:${await freePort()}` }
    const text = pageConfig([{ name: 'disk', upstream: { file }, allow: [{ who: 'anyone', rights: 'read' }] }], {
      admin,
    })
    const first = await gateway(text)
    const { page } = await look(await pageUrl(first))
    const state = page.locator('#state')
    await state.filter({ hasText: 'live' }).waitFor()
    await first.stop()
    await state.filter({ hasText: 'does not answer' }).waitFor()
    const second = await gateway(text)
    await state.filter({ hasText: 'live' }).waitFor()
    await entered(second.port('tcp'))
    await row(page, 'sessions', 'address:127.0.0.1').waitFor()
    await run(['nbdinfo', `nbd://${HOST}:${second.port('tcp')}/nothing`])
    await row(page, 'refusals', 'nothing').first().waitFor()
  })
})
