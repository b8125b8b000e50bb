import type { CertificateFacts, ExportFacts, GatewayFacts } from '../managed.ts'
import { make, setText } from './dom.ts'
import { countText, durationText, latencyText, plural, rateText } from './format.ts'
import type { TrafficBook } from './traffic.ts'

/** What the top of the page is made of. */
export interface SummaryFacts {
  readonly gateway: GatewayFacts
  readonly exports: readonly ExportFacts[]
  readonly certificates: readonly CertificateFacts[]
  readonly sessions: number
  readonly waiting: number
  readonly refusedLately: number
}

const TILES = ['Sessions', 'Connections', 'Reads', 'Writes', 'Latency p99', 'Waiting', 'Refused in 5 min'] as const

/** Figures of the whole gateway, and whatever an operator should look at. */
export class Summary {
  readonly #values = new Map(TILES.map(tile => [tile, make('dd')]))
  readonly #about: HTMLElement
  readonly #alerts: HTMLElement
  readonly #book: TrafficBook
  #told = ''

  constructor(place: HTMLElement, about: HTMLElement, alerts: HTMLElement, book: TrafficBook) {
    this.#about = about
    this.#alerts = alerts
    this.#book = book
    const tiles = [...this.#values].map(([tile, value]) => make('div', { class: 'tile' }, make('dt', {}, tile), value))
    place.append(make('dl', { class: 'tiles' }, ...tiles))
  }

  show(facts: SummaryFacts): void {
    const all = this.#book.of(undefined)
    const { gateway } = facts
    const values: Readonly<Record<(typeof TILES)[number], string>> = {
      Sessions: countText(facts.sessions),
      Connections: `${countText(gateway.connections)} of ${countText(gateway.connectionsLimit)}`,
      Reads: rateText(all.last('read') ?? 0),
      Writes: rateText(all.last('written') ?? 0),
      'Latency p99': latencyText(all.last('p99')),
      Waiting: countText(facts.waiting),
      'Refused in 5 min': countText(facts.refusedLately),
    }
    for (const tile of TILES) setText(this.#values.get(tile) ?? this.#about, values[tile])
    setText(this.#about, aboutText(gateway))
    this.#alert(alertsOf(facts))
  }

  /** A list that is read out when it changes is left alone while it does not. */
  #alert(alerts: readonly string[]): void {
    if (alerts.join('\n') === this.#told) return
    this.#told = alerts.join('\n')
    this.#alerts.replaceChildren(...alerts.map(text => make('li', {}, text)))
  }
}

function aboutText({ version, since, workers, doors }: GatewayFacts): string {
  const where = workers === 0 ? 'one process' : plural(workers, 'worker')
  const open = doors.map(({ kind, address }) => `${kind} ${address}`).join(', ')
  return `${version}, up ${durationText(Date.now() - Date.parse(since))}, ${where}; doors: ${open || 'none'}`
}

/** A sentence for each thing that is not as it should be. */
export function alertsOf({ gateway, exports, certificates }: SummaryFacts): readonly string[] {
  const down = exports.filter(({ upstreamState }) => upstreamState === 'down')
  return [
    ...(gateway.draining ? ['The gateway is draining: nobody is let in any more.'] : []),
    ...(gateway.auditFailing ? ['The audit trail can not be written.'] : []),
    ...(gateway.lastReload === 'failed'
      ? ['The last reload has failed: the configuration before it is in force.']
      : []),
    ...down.map(({ name, upstream }) => `${name}: the upstream ${upstream} does not answer.`),
    ...certificates.flatMap(({ file, ends, state }) => {
      if (state === 'good') return []
      if (state === 'unreadable') return [`${file} can not be read.`]
      const day = (ends ?? '').slice(0, 10)
      return [state === 'over' ? `${file} has ended on ${day}.` : `${file} ends on ${day}.`]
    }),
  ]
}
