import type { EventFeed, GatewayEvent } from './event-feed.ts'

/** How many are kept. */
const KEPT = 100

/** The last refusals of a feed, for who comes to look after they have happened. */
export class RecentRefusals {
  readonly #kept: GatewayEvent[] = []

  constructor(feed: EventFeed) {
    feed.listen(event => {
      if (event.kind !== 'refused') return
      // An error is for the log: it would keep alive whatever it knows.
      const { err: _err, ...facts } = event.facts
      this.#kept.push({ ...event, facts })
      if (this.#kept.length > KEPT) this.#kept.shift()
    })
  }

  /** The newest first. */
  list(): readonly GatewayEvent[] {
    return this.#kept.toReversed()
  }
}
