/** A gateway with its page, and a Chromium to look at it. */
import { join } from 'node:path'
import { type Browser, type BrowserContext, type BrowserContextOptions, chromium, type Page } from 'playwright-core'
import { Opt } from '../../src/protocol/constants.ts'
import { config, type Entry, tcpDoor } from '../interop/configs.ts'
import { greeted, infoData, type RawClient } from '../interop/raw-client.ts'
import { test as base } from '../support/fixtures.ts'
import type { RunningGateway } from '../support/gateway.ts'
import { within } from '../support/process.ts'
import { findProgram } from '../support/programs.mjs'

const HOST = '127.0.0.1'
const LAUNCH_MS = 60_000
const CLOSE_MS = 20_000
const PATIENCE_MS = 20_000

/** What must not be there at the end: violations of the policy, errors, and requests that leave the page's origin. */
interface Watched {
  readonly page: Page
  readonly problems: () => Promise<readonly string[]>
}

/** Where the page of a gateway is. */
export async function pageUrl(gateway: RunningGateway): Promise<string> {
  const { address } = await gateway.waitForLog(line => line.msg === 'admin http ready')
  return `http://${String(address)}/`
}

/** A visitor that has entered an export, and does nothing there. */
export async function entered(port: number, name = 'disk'): Promise<RawClient> {
  const client = await greeted({ host: HOST, port })
  await client.option(Opt.GO, infoData(name))
  return client
}

/** The text of a configuration whose page is on a free port. */
export function pageConfig(exports: readonly Entry[], { admin = {}, ...more }: Entry & { admin?: Entry } = {}): string {
  return config([tcpDoor()], exports, { admin: { http: `${HOST}:0`, ...admin }, ...more })
}

/** What is done to a page before it is loaded. */
type Prepare = (page: Page) => Promise<unknown>

async function watch(context: BrowserContext, url: string, prepare: Prepare): Promise<Watched> {
  const page = await context.newPage()
  page.setDefaultTimeout(PATIENCE_MS)
  const problems: string[] = []
  const { origin } = new URL(url)
  page.on('pageerror', error => problems.push(`error: ${error.message}`))
  page.on('request', request => {
    if (!request.url().startsWith(`${origin}/`)) problems.push(`request: ${request.url()}`)
  })
  await page.addInitScript(() => {
    document.addEventListener('securitypolicyviolation', ({ violatedDirective, sourceFile, lineNumber }) => {
      document.documentElement.dataset.violation = `${violatedDirective} ${sourceFile}:${lineNumber}`
    })
  })
  await prepare(page)
  await page.goto(url)
  const violation = (): Promise<string | undefined> => page.evaluate(() => document.documentElement.dataset.violation)
  return {
    page,
    problems: async () => {
      const violated = await violation()
      return violated === undefined ? problems : [...problems, `policy: ${violated}`]
    },
  }
}

/** `test` of the fixtures, with a browser. */
export const test = base
  .extend('browser', { scope: 'file' }, async ({}, { onCleanup }): Promise<Browser> => {
    const isRoot = process.getuid?.() === 0
    const browser = await chromium.launch({
      executablePath: findProgram('chromium') ?? 'chromium',
      timeout: LAUNCH_MS,
      // Chromium's own sandbox does not work for root.
      args: isRoot ? ['--no-sandbox'] : [],
    })
    // One that does not answer any more ends with this process.
    onCleanup(async () => void (await within(browser.close(), CLOSE_MS)))
    return browser
  })
  /** Opens an address in a profile of its own. */
  .extend('look', async ({ browser, dir, onTestFailed }, { onCleanup }) => {
    const contexts: BrowserContext[] = []
    onTestFailed(async () => {
      const pages = contexts.flatMap(context => context.pages())
      for (const page of pages) console.error(`${page.url()}\n${await page.locator('body').innerText()}`)
      await pages[0]?.screenshot({ path: join(dir, 'page.png') })
    })
    onCleanup(async () => {
      for (const context of contexts) await within(context.close(), CLOSE_MS)
    })
    return async (
      url: string,
      options: BrowserContextOptions = {},
      prepare: Prepare = async () => {},
    ): Promise<Watched> => {
      const context = await browser.newContext(options)
      contexts.push(context)
      return await watch(context, url, prepare)
    }
  })
