// The page with more than anybody reads, and left open for long: what its gateway answers is multiplied, time runs faster.
import { join } from 'node:path'
import type { CDPSession, Page, Route } from 'playwright-core'
import { expect } from 'vitest'
import { seededFile } from '../support/disk.ts'
import { requires } from '../support/requires.ts'
import { entered, pageConfig, pageUrl, test } from './ground.ts'

const MANY = 10_000
/** Rows that a table shows at most. */
const SHOWN = 400
const SESSIONS = 8
/** One a second where nothing hurries; as many as you like by LOOKS=. */
const LOOKS = Number(process.env.LOOKS ?? '700')
/** What is kept for plots is full then. */
const WARM = 320
const MIB = 2 ** 20
/** So many looks are waited for at a time. */
const STRIDE = 20
const STRIDE_BOUND_MS = 10_000

/** Answers with so many of the one that the gateway has, each with a number of its own. */
const multiplied = (list: string, each: (first: object, index: number) => object) => async (route: Route) => {
  const answer = await route.fetch()
  const [first] = (await answer.json())[list]
  await route.fulfill({ json: { [list]: Array.from({ length: MANY }, (_, index) => each(first, index)) } })
}

/** In the page: answers are the gateway's first ones, with counters that grow and sessions that come and go; nothing waits. */
function hurry(): void {
  const { fetch: ask, setTimeout: wait } = globalThis
  const kept = new Map<string, unknown>()
  let looks = 0
  const refusal = (): string => {
    const facts = { who: `cert:cn=visitor${looks}`, peer: '192.0.2.7:50312', export: 'disk', reason: 'no rule' }
    return `event: refused\ndata: ${JSON.stringify({ kind: 'refused', time: new Date().toISOString(), what: 'refused', facts })}\n\n`
  }
  const events = (): Response => {
    const body = new ReadableStream({
      pull: async controller => {
        await new Promise(resolve => wait(resolve, 20))
        controller.enqueue(new TextEncoder().encode(refusal()))
      },
    })
    return new Response(body)
  }
  const moved = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(moved)
    if (typeof value !== 'object' || value === null) return value
    const grown = Object.entries(value).map(([key, each]) => {
      if (/^(reads|writes|bytes(Read|Written))$/.test(key) && typeof each === 'number')
        return [key, each + looks * 4096]
      // One goes and another one comes with each look.
      if (key === 'id' && typeof each === 'number') return [key, each + 8 * Math.floor((looks + each) / 8)]
      return [key, moved(each)]
    })
    return Object.fromEntries(grown)
  }
  globalThis.fetch = async (input, init) => {
    const path = String(input)
    if (path === '/v1/events') return events()
    if (path === '/v1/traffic') document.documentElement.dataset.looks = String(++looks)
    const known = kept.get(path) ?? (await (await ask(input, init)).json())
    kept.set(path, known)
    return Response.json(moved(known))
  }
  globalThis.setTimeout = ((run: () => void, ms = 0) => wait(run, ms < 500 ? ms / 20 : 0)) as typeof setTimeout
  // Of those thousands would wait at once.
  AbortSignal.timeout = () => new AbortController().signal
}

async function weigh(protocol: CDPSession): Promise<{ readonly bytes: number; readonly nodes: number }> {
  await protocol.send('HeapProfiler.collectGarbage')
  const { usedSize } = await protocol.send('Runtime.getHeapUsage')
  const { nodes } = await protocol.send('Memory.getDOMCounters')
  return { bytes: usedSize, nodes }
}

/** Until it has looked so often. How fast it looks is the machine's affair; that it goes on looking is not. */
async function looked(page: Page, count: number): Promise<void> {
  const looks = (): Promise<number> => page.evaluate(() => Number(document.documentElement.dataset.looks ?? 0))
  for (let seen = await looks(); seen < count; seen = await looks()) {
    const next = Math.min(count, seen + STRIDE)
    await page.waitForFunction(wanted => Number(document.documentElement.dataset.looks) >= wanted, next, {
      timeout: STRIDE_BOUND_MS,
    })
  }
}

requires('chromium')('the page', () => {
  test('shows a part of 10,000 sessions and exports, finds the others, and stays alive', async ({
    gateway,
    dir,
    look,
  }) => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    const running = await gateway(
      pageConfig([{ name: 'disk', upstream: { file }, allow: [{ who: 'anyone', rights: 'write' }] }]),
    )
    await entered(running.port('tcp'))
    const session = (first: object, id: number) => ({ ...first, id, who: `cert:cn=client${id}` })
    const disk = (first: object, id: number) => ({ ...first, name: `disk${id}` })
    const { page, problems } = await look(await pageUrl(running), {}, async blank => {
      await blank.route('**/v1/sessions', multiplied('sessions', session))
      await blank.route('**/v1/exports', multiplied('exports', disk))
    })
    const rows = page.locator('#sessions tbody tr')
    await page.locator('#sessions .note', { hasText: `${MANY - SHOWN} more are found by the filter` }).waitFor()
    expect(await rows.count()).toBe(SHOWN)
    expect(await page.locator('.tile', { hasText: 'Sessions' }).first().textContent()).toContain('10,000')
    await page.getByLabel('Filter sessions').fill('client9876')
    await rows.nth(1).waitFor({ state: 'detached' })
    expect(await rows.first().textContent()).toContain('cert:cn=client9876')
    await page.locator('#exports .note', { hasText: `${MANY - SHOWN} more are found by the filter` }).waitFor()
    await page.getByLabel('Filter exports').fill('disk9876')
    await page.locator('#exports tbody tr').nth(1).waitFor({ state: 'detached' })
    // It goes on looking.
    await page.waitForResponse('**/v1/sessions')
    await page.locator('#state', { hasText: 'live' }).waitFor()
    expect(await problems()).toEqual([])
  })

  test('does not grow while it is left open', { timeout: 3 * 60_000 }, async ({ gateway, dir, look }) => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    const running = await gateway(
      pageConfig([{ name: 'disk', upstream: { file }, allow: [{ who: 'anyone', rights: 'write' }] }]),
    )
    for (let count = 0; count < SESSIONS; count++) await entered(running.port('tcp'))
    const { page, problems } = await look(await pageUrl(running), {}, blank => blank.addInitScript(hurry))
    const protocol = await page.context().newCDPSession(page)
    await protocol.send('HeapProfiler.enable')
    await looked(page, WARM)
    const before = await weigh(protocol)
    await looked(page, WARM + LOOKS)
    const after = await weigh(protocol)
    const grown = (after.bytes - before.bytes) / MIB
    console.info(`heap after ${WARM} and ${WARM + LOOKS} looks: ${before.bytes} and ${after.bytes} bytes`)
    // 1.5 KiB that are kept of each look would be a MiB; a row that is kept has more.
    expect(grown).toBeLessThan(1)
    expect(after.nodes - before.nodes).toBeLessThan(1000)
    expect(await page.locator('#sessions tbody tr').count()).toBe(SESSIONS)
    expect(await page.locator('#refusals tbody tr').count()).toBeLessThanOrEqual(100)
    expect(await page.locator('#state').textContent()).toBe('live')
    expect(await problems()).toEqual([])
  })
})
