// The page for whoever looks at it: with a token, by keyboard, with a screen reader, on a phone, with 200 sessions.
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { connect, createServer } from 'node:net'
import { join } from 'node:path'
import type axe from 'axe-core'
import type { Page, Request } from 'playwright-core'
import { expect } from 'vitest'
import { seededFile } from '../support/disk.ts'
import { requires } from '../support/requires.ts'
import { test as base, entered, pageConfig, pageUrl } from './ground.ts'

const TOKEN = 'correct-horse-battery-staple'
const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const PHONE = { width: 360, height: 740 }

const test = base.extend('disk', async ({ dir }) => {
  const file = await seededFile(join(dir, 'disk.img'), 1)
  return { name: 'disk', upstream: { file }, allow: [{ who: 'anyone', rights: 'write' }] }
})

const isLive = (page: Page) => page.locator('#state', { hasText: 'live' }).waitFor()
const sessions = (page: Page) => page.locator('#sessions tbody tr')

/** What axe finds that keeps somebody from using the page. */
async function findings(page: Page): Promise<readonly string[]> {
  // As the protocol runs it: the page's own policy lets no foreign script in.
  await page.evaluate(AXE)
  const { violations } = await page.evaluate(async () => {
    const { axe: here } = globalThis as unknown as { axe: typeof axe }
    return await here.run(document)
  })
  const grave = violations.filter(({ impact }) => impact === 'serious' || impact === 'critical')
  return grave.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`)
}

requires('chromium')('the page', () => {
  test('asks for the token, keeps it in its tab, and forgets it', async ({ gateway, dir, disk, look }) => {
    await writeFile(join(dir, 'token'), `${TOKEN}\n`)
    const running = await gateway(pageConfig([disk], { admin: { 'token-file': join(dir, 'token') } }))
    const url = await pageUrl(running)
    const { page, problems } = await look(url)
    const field = page.getByLabel('Token', { exact: true })
    await field.fill('wrong-wrong-wrong-wrong')
    await page.keyboard.press('Enter')
    await page.getByText('a wrong token').waitFor()
    expect(await page.locator('#live').isVisible()).toBe(false)
    await field.fill(TOKEN)
    await page.keyboard.press('Enter')
    await isLive(page)
    await entered(running.port('tcp'))
    await sessions(page).filter({ hasText: 'address:127.0.0.1' }).waitFor()
    await page.reload()
    await isLive(page)
    expect(page.url()).toBe(url)
    const another = await page.context().newPage()
    await another.goto(url)
    await another.getByText('A token is needed').waitFor()
    await page.getByRole('button', { name: 'Forget token' }).click()
    await field.waitFor()
    expect(await problems()).toEqual([])
  })

  test('over the admin socket ends a session, once that is confirmed', async ({
    gateway,
    dir,
    disk,
    look,
    onTestFinished,
  }) => {
    const socket = join(dir, 'admin.sock')
    const running = await gateway(pageConfig([disk], { admin: { socket } }))
    const [kept, ended] = [await entered(running.port('tcp')), await entered(running.port('tcp'))]
    // What `ssh -L 9180:admin.sock` does.
    const forward = createServer(near => {
      const far = connect(socket)
      near.on('error', () => far.destroy()).pipe(far)
      far.on('error', () => near.destroy()).pipe(near)
    }).listen(0, '127.0.0.1')
    onTestFinished(() => void forward.close())
    await once(forward, 'listening')
    const address = forward.address()
    const { page, problems } = await look(`http://localhost:${typeof address === 'object' ? address?.port : 0}/`)
    const button = page.getByRole('button', { name: 'End session 2' })
    await button.click()
    await page.getByText('End session 2?').waitFor()
    await page.keyboard.press('Escape')
    await button.click()
    await page.getByRole('button', { name: 'End it' }).click()
    await ended.closed()
    await sessions(page).nth(1).waitFor({ state: 'detached' })
    await running.waitForLog(line => line.msg === 'session ended' && line.conn === 2 && line.why === 'kicked')
    expect(running.log().filter(line => line.msg === 'session ended')).toHaveLength(1)
    await kept.disconnect()
    expect(await problems()).toEqual([])
  })

  test.for(['light', 'dark'] as const)(
    'can be read by everybody in %s colours, on a phone without scrolling sideways',
    async (colorScheme, { gateway, disk, look }) => {
      const down = { name: 'gone', upstream: 'nbd://127.0.0.1:1/gone', allow: [{ who: 'anyone', rights: 'read' }] }
      const long = { ...disk, name: 'a-name-that-is-longer-than-a-phone-is-wide/and-then-some-more-of-it' }
      const running = await gateway(pageConfig([disk, down, long]))
      await entered(running.port('tcp'), long.name)
      await entered(running.port('tcp'))
      for (const viewport of [{ width: 1280, height: 900 }, PHONE]) {
        const { page, problems } = await look(await pageUrl(running), { colorScheme, viewport })
        await sessions(page).first().waitFor()
        expect(await findings(page)).toEqual([])
        expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBe(viewport.width)
        expect(await problems()).toEqual([])
      }
    },
  )

  test('holds no stream of events while nobody sees it', async ({ gateway, disk, look }) => {
    const running = await gateway(pageConfig([disk]))
    const { page } = await look(await pageUrl(running))
    await isLive(page)
    const isStream = (request: Request) => request.url().endsWith('/v1/events')
    const show = (isHidden: boolean) =>
      page.evaluate(hidden => {
        Object.defineProperty(document, 'hidden', { configurable: true, get: () => hidden })
        document.dispatchEvent(new Event('visibilitychange'))
      }, isHidden)
    const ended = page.waitForEvent('requestfailed', isStream)
    await show(true)
    expect((await ended).failure()?.errorText).toBe('net::ERR_ABORTED')
    const again = page.waitForEvent('request', isStream)
    await show(false)
    await again
  })

  test('is used by keyboard alone', async ({ gateway, disk, look }) => {
    const running = await gateway(pageConfig([disk, { ...disk, name: 'second' }]))
    for (const name of ['disk', 'second']) await entered(running.port('tcp'), name)
    const { page } = await look(await pageUrl(running), { colorScheme: 'light' })
    await page.locator('.regions .note', { hasText: '1024 regions' }).waitFor()
    const focused = () =>
      page.evaluate(() => {
        const { activeElement: at } = document
        return at?.getAttribute('aria-label') ?? (at?.id || at?.textContent) ?? ''
      })
    const seen: string[] = []
    for (let step = 0; step < 60 && seen.at(-1) !== 'filter'; step++) {
      await page.keyboard.press('Tab')
      const name = await focused()
      seen.push(name)
      if (name === 'theme') await page.keyboard.press('Enter')
      if (name === 'Region of the disk') {
        await page.locator('.regions .note', { hasText: '1024 regions' }).waitFor()
        await page.keyboard.press('ArrowRight')
        await page.locator('.regions .note', { hasText: 'region 1: 0 B to 1.0 KiB' }).waitFor()
        await page.keyboard.press('End')
        await page.locator('[aria-valuetext^="region 1024: "]').waitFor()
      }
      if (name === 'second') await page.keyboard.press('Enter')
    }
    expect(seen).toEqual(expect.arrayContaining(['theme', 'disk', 'second', 'Region of the disk', 'filter']))
    // What the keys on the way have done.
    await page.locator('#detail-title', { hasText: 'second' }).waitFor()
    expect(await page.locator('html').getAttribute('data-theme')).toBe('light')
    await page.keyboard.type('nobody has this name')
    await page.getByText('nothing matches').waitFor()
    await page.keyboard.press('Shift+Tab')
  })

  test('keeps the rows of 200 sessions, and writes only what has changed', async ({ gateway, disk, look }) => {
    const limits = { 'sessions-per-address': 300 }
    const running = await gateway(pageConfig([disk], { limits }))
    const port = running.port('tcp')
    const clients = await Promise.all(Array.from({ length: 200 }, () => entered(port)))
    const { page, problems } = await look(await pageUrl(running))
    await sessions(page).nth(199).waitFor()
    const written = () => page.evaluate(() => Number(document.documentElement.dataset.written))
    await page.evaluate(() => {
      const root = document.documentElement
      root.dataset.written = '0'
      root.dataset.removed = '0'
      const add = (name: string, count: number): void => {
        root.dataset[name] = String(Number(root.dataset[name]) + count)
      }
      const seen = (records: readonly MutationRecord[]): void => {
        add('written', records.length)
        add(
          'removed',
          records.reduce((sum, { removedNodes }) => sum + removedNodes.length, 0),
        )
      }
      const body = document.querySelector('#sessions tbody')
      if (body !== null)
        new MutationObserver(seen).observe(body, { childList: true, subtree: true, characterData: true })
    })
    // One leaves: its row goes, and the others stay where they are.
    await clients[100]?.disconnect()
    await sessions(page).nth(199).waitFor({ state: 'detached' })
    const [rows, removed] = [await sessions(page).count(), await page.locator('html').getAttribute('data-removed')]
    expect([rows, removed]).toEqual([199, '1'])
    // Their ages are written once a second at most; nobody moves anything, so of 1,800 cells no other changes.
    expect(await written()).toBeLessThan(199 * 20)
    expect(await problems()).toEqual([])
  })
})
