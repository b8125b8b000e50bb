/**
 * The page: who is on which export, and what goes on there. It asks its gateway once a second, and is told of refusals as
 * they happen; all that it keeps is bounded, so that it can be left open.
 */

import type { GatewayEvent } from '../../observe/event-feed.ts'
import type { RegionFacts } from '../../observe/region-counts.ts'
import type { CertificateFacts, ExportFacts, GatewayFacts, LeaseFacts, SessionFacts, WaitingFacts } from '../managed.ts'
import { Api, TokenNeeded } from './api.ts'
import { byEnd, certificateTable } from './certificates.ts'
import { confirmEnd } from './confirm.ts'
import { Detail } from './detail.ts'
import { byId, setText } from './dom.ts'
import { exportTable } from './exports.ts'
import { leaseRows, leaseTable } from './leases.ts'
import type { LiveTable } from './live-table.ts'
import { askForToken } from './login.ts'
import { Refusals, refusalTable } from './refusals.ts'
import { SessionRates, type SessionRow, sessionTable } from './sessions.ts'
import { Summary } from './summary.ts'
import { followTheme } from './theme.ts'
import { type TrafficAnswer, TrafficBook } from './traffic.ts'

const LOOK_MS = 1000
/** A pause is as long as so many answers. */
const REST = 3
/** The map is asked for more often than the rest, while somebody looks. */
const MAP_MS = 400
/** What changes seldom is asked for with every so many looks, and when others are there than before. */
const SELDOM = 5
const AGAIN_MS = 1500
/** Fewer need no filter. */
const FEW_EXPORTS = 12
const LATELY_MS = 5 * 60_000

interface AboutAnswer extends GatewayFacts {
  readonly access: 'look' | 'full'
}

const pause = (ms: number): Promise<void> => new Promise(resolve => setTimeout(resolve, ms))

class Page {
  readonly #api = new Api()
  readonly #book = new TrafficBook()
  readonly #refusals = new Refusals()
  readonly #rates = new SessionRates()
  readonly #detail = new Detail(byId('detail', HTMLElement), byId('detail-title', HTMLElement), this.#book)
  readonly #summary = new Summary(
    byId('summary', HTMLElement),
    byId('about', HTMLElement),
    byId('alerts', HTMLElement),
    this.#book,
  )
  readonly #exportTable = exportTable(
    this.#book,
    name => this.#choose(name),
    () => this.#detail.name,
    byId('export-filter', HTMLInputElement),
  )
  readonly #leaseTable = leaseTable()
  readonly #refusalTable = refusalTable()
  readonly #certificateTable = certificateTable()
  #sessionTable: LiveTable<SessionRow> | undefined
  #gateway: AboutAnswer | undefined
  #exports: readonly ExportFacts[] = []
  #certificates: readonly CertificateFacts[] = []
  #looks = 0
  /** Who was there at the last look. */
  #who: string | undefined

  async run(): Promise<void> {
    byId('exports', HTMLElement).append(this.#exportTable.element)
    byId('leases', HTMLElement).append(this.#leaseTable.element)
    byId('refusals', HTMLElement).append(this.#refusalTable.element)
    byId('certificates', HTMLElement).append(this.#certificateTable.element)
    followTheme(() => this.#detail.repaint())
    byId('sign-out', HTMLButtonElement).addEventListener('click', () => {
      this.#api.use(undefined)
      location.reload()
    })
    await this.#enter()
    void this.#again(() => this.#lookAtMap(), MAP_MS)
    void this.#listenAgain()
    await this.#again(() => this.#look(), LOOK_MS)
  }

  /** Finds out whether a token is needed, and which one is good. */
  async #enter(): Promise<void> {
    for (;;) {
      try {
        this.#gateway = await this.#api.get<AboutAnswer>('/v1/gateway')
        break
      } catch (error) {
        if (error instanceof TokenNeeded) await askForToken(this.#api, error.message)
        else {
          this.#connected(false)
          await pause(AGAIN_MS)
        }
      }
    }
    byId('live', HTMLElement).hidden = false
    byId('sign-out', HTMLElement).hidden = !this.#api.hasToken
    const mayEnd = this.#gateway?.access === 'full'
    this.#sessionTable = sessionTable(byId('filter', HTMLInputElement), mayEnd ? id => void this.#end(id) : undefined)
    byId('sessions', HTMLElement).append(this.#sessionTable.element)
  }

  /** Looks again and again, whatever becomes of it. A gateway that takes long to answer is asked less often. */
  async #again(look: () => Promise<void>, everyMs: number): Promise<never> {
    for (;;) {
      const began = performance.now()
      const isDone = await this.#tried(look)
      const tookMs = performance.now() - began
      await pause(isDone ? Math.max(everyMs - tookMs, tookMs * REST) : AGAIN_MS)
    }
  }

  /**
   * Listens again and again: the stream ends with its gateway. Not while nobody sees the page: a browser has six connections
   * to a host, and six forgotten tabs would hold them all.
   */
  async #listenAgain(): Promise<never> {
    let hiding = new AbortController()
    document.addEventListener('visibilitychange', () => {
      if (document.hidden) hiding.abort()
    })
    for (;;) {
      hiding = new AbortController()
      if (!document.hidden) await this.#listen(hiding.signal)
      await pause(AGAIN_MS)
    }
  }

  async #tried(run: () => Promise<void>): Promise<boolean> {
    try {
      await run()
      return true
    } catch (error) {
      // The token has changed: only a new page has a place to ask for it.
      if (error instanceof TokenNeeded) location.reload()
      this.#connected(false)
      return false
    }
  }

  async #look(): Promise<void> {
    const [traffic, sessions, leases, waiting] = await Promise.all([
      this.#api.get<TrafficAnswer>('/v1/traffic'),
      this.#api.get<{ sessions: readonly SessionFacts[] }>('/v1/sessions'),
      this.#api.get<{ leases: readonly LeaseFacts[] }>('/v1/leases'),
      this.#api.get<{ waiting: readonly WaitingFacts[] }>('/v1/waiting'),
    ])
    const who = JSON.stringify(sessions?.sessions.map(({ id, upstreamLost }) => [id, upstreamLost]))
    if (this.#looks++ % SELDOM === 0 || who !== this.#who) await this.#lookAround()
    this.#who = who
    const seconds = performance.now() / 1000
    if (traffic !== undefined) this.#book.add(traffic, seconds, Date.now() / 1000)
    this.#sessionTable?.show(this.#rates.take(sessions?.sessions ?? [], seconds))
    this.#leaseTable.show(leaseRows(leases?.leases ?? [], waiting?.waiting ?? []))
    this.#exportTable.show(this.#exports)
    this.#detail.refresh()
    if (this.#gateway !== undefined) {
      this.#summary.show({
        gateway: this.#gateway,
        exports: this.#exports,
        certificates: this.#certificates,
        sessions: sessions?.sessions.length ?? 0,
        waiting: waiting?.waiting.length ?? 0,
        refusedLately: this.#refusals.since(Date.now() - LATELY_MS),
      })
    }
    this.#connected(true)
  }

  /** What changes seldom. */
  async #lookAround(): Promise<void> {
    const [gateway, exports, certificates] = await Promise.all([
      this.#api.get<AboutAnswer>('/v1/gateway'),
      this.#api.get<{ exports: readonly ExportFacts[] }>('/v1/exports'),
      this.#api.get<{ certificates: readonly CertificateFacts[] }>('/v1/certificates'),
    ])
    // Another gateway brings another page.
    if (gateway?.version !== this.#gateway?.version) location.reload()
    this.#gateway = gateway
    this.#exports = exports?.exports ?? []
    const filter = byId('export-filter', HTMLInputElement)
    filter.hidden = this.#exports.length <= FEW_EXPORTS && filter.value === ''
    this.#certificates = byEnd(certificates?.certificates ?? [])
    this.#certificateTable.show(this.#certificates)
    const isThere = this.#exports.some(({ name }) => name === this.#detail.name)
    const busiest = this.#exports.toSorted((a, b) => b.sessions.length - a.sessions.length)[0]
    if (!isThere && busiest !== undefined) this.#choose(busiest.name)
  }

  async #lookAtMap(): Promise<void> {
    const { name } = this.#detail
    // What nobody sees need not be counted.
    if (name === undefined || document.hidden) return
    const facts = await this.#api.get<RegionFacts>(`/v1/regions?export=${encodeURIComponent(name)}`)
    if (facts !== undefined && name === this.#detail.name) this.#detail.map.feed(facts)
  }

  async #listen(signal: AbortSignal): Promise<void> {
    const opened = (): void => void this.#loadRefusals()
    try {
      await this.#api.listen(signal, opened, event => this.#told(event))
    } catch {
      // Whether the gateway is there is found out by looking.
    }
  }

  async #loadRefusals(): Promise<void> {
    try {
      const kept = await this.#api.get<{ refusals: readonly GatewayEvent[] }>('/v1/refusals')
      this.#refusals.replace(kept?.refusals ?? [])
      this.#refusalTable.show(this.#refusals.rows)
    } catch {
      // The stream of events ends for the same reason, and comes back.
    }
  }

  #told(event: GatewayEvent): void {
    if (event.kind !== 'refused') return
    const { who, what, reason } = this.#refusals.add(event)
    this.#refusalTable.show(this.#refusals.rows)
    setText(byId('announcement', HTMLElement), `${who} ${what}: ${reason}`)
  }

  #choose(name: string): void {
    this.#detail.choose(name)
    this.#exportTable.show(this.#exports)
  }

  async #end(id: number): Promise<void> {
    if (!(await confirmEnd(id))) return
    const isDone = await this.#api.remove(`/v1/sessions/${id}`).catch(() => false)
    setText(byId('announcement', HTMLElement), isDone ? `session ${id} is ended` : `session ${id} could not be ended`)
  }

  #connected(isConnected: boolean): void {
    const state = byId('state', HTMLElement)
    state.dataset.kind = isConnected ? 'up' : 'down'
    setText(state, isConnected ? 'live' : 'the gateway does not answer')
  }
}

void new Page().run()
