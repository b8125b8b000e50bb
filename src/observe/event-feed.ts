import type { Facts } from './log.ts'

/** Something that has happened: what those who watch the gateway are told of it. */
export interface GatewayEvent {
  readonly kind: 'opened' | 'ended' | 'refused' | 'reloaded' | 'lease' | 'upstream'
  /** ISO 8601. */
  readonly time: string
  /** The log's words for it. */
  readonly what: string
  readonly facts: Facts
}

/** Hands events to whoever listens at the moment; keeps none. */
export class EventFeed {
  readonly #listeners = new Set<(event: GatewayEvent) => void>()

  /** Tells of all that happens from now on; returns what ends that. A listener must not throw. */
  listen(listener: (event: GatewayEvent) => void): () => void {
    this.#listeners.add(listener)
    return () => void this.#listeners.delete(listener)
  }

  tell(kind: GatewayEvent['kind'], what: string, facts: Facts): void {
    if (this.#listeners.size === 0) return
    const event = { kind, time: new Date().toISOString(), what, facts }
    for (const listener of this.#listeners) listener(event)
  }
}
