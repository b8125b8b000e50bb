/**
 * Events for one client, in the form of server-sent events. A client that does not keep up loses events, and is told how
 * many: nothing is kept for it beyond a bound.
 */
import type { GatewayEvent } from '../observe/event-feed.ts'

/** Events that wait for a client at most. */
const MAX_WAITING = 256

/** A word now and then: a client that is gone is noticed, and no proxy takes the stream for dead. */
const HEARTBEAT_MS = 15_000

const encoder = new TextEncoder()

/** Calls with each event from now on; returns what ends that. */
export type Listen = (listener: (event: GatewayEvent) => void) => () => void

/** A stream of all events from now on, until its reader cancels it or `signal` ends it. `ended` is called once then. */
export function eventStream(listen: Listen, signal: AbortSignal, ended: () => void): ReadableStream<Uint8Array> {
  let waiting: string[] = []
  let skipped = 0
  let isOver = false
  let stop = (): void => {}
  let wake = (): void => {}
  const add = (text: string): void => {
    if (waiting.length < MAX_WAITING) waiting.push(text)
    else skipped++
    wake()
  }
  return new ReadableStream<Uint8Array>(
    {
      start: controller => {
        const unlisten = listen(event => add(encode(event)))
        const timer = setInterval(() => waiting.length === 0 && add(': \n\n'), HEARTBEAT_MS)
        stop = () => {
          stop = () => {}
          isOver = true
          unlisten()
          clearInterval(timer)
          signal.removeEventListener('abort', closed)
          wake()
          ended()
        }
        const closed = (): void => {
          stop()
          controller.close()
        }
        signal.addEventListener('abort', closed)
        add(': nbdgate events\n\n')
      },
      pull: async controller => {
        while (waiting.length === 0 && !isOver) await new Promise<void>(resolve => (wake = resolve))
        if (isOver) return
        const text = waiting.join('')
        waiting = []
        const lost = skipped === 0 ? '' : encode(skippedEvent(skipped))
        skipped = 0
        controller.enqueue(encoder.encode(text + lost))
      },
      cancel: () => stop(),
    },
    { highWaterMark: 0 },
  )
}

function skippedEvent(count: number): Omit<GatewayEvent, 'kind'> & { readonly kind: 'skipped' } {
  return { kind: 'skipped', time: new Date().toISOString(), what: 'this client was too slow', facts: { count } }
}

function encode({ facts, ...event }: ReturnType<typeof skippedEvent> | GatewayEvent): string {
  // An error is for the log: what it carries is nobody's business here.
  const { err: _err, ...plain } = facts
  return `event: ${event.kind}\ndata: ${JSON.stringify({ ...event, facts: plain })}\n\n`
}
