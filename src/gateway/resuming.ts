import type { ExportMeter } from '../observe/export-meter.ts'
import type { Facts } from '../observe/log.ts'
import type { ResumeEvent, Resuming } from '../relay/resumer.ts'
import { UpstreamError } from '../upstreams/errors.ts'
import type { SessionContext } from './context.ts'
import type { WayBack } from './way-back.ts'

/** Whom it is told to: the log with these facts, the export's meter, and whoever asks whether the upstream is away. */
interface Told {
  readonly facts: Facts
  readonly meter: ExportMeter
  readonly outage: { isOn: boolean }
}

/** How a session goes on when its upstream has died, and what the log says of it; undefined: it ends then. */
export function resuming(
  way: WayBack | undefined,
  context: Pick<SessionContext, 'log' | 'flushTimes'>,
  told: Told,
): Resuming | undefined {
  if (way === undefined || way.outage.reconnectMs === 0) return undefined
  return {
    limitMs: way.outage.reconnectMs,
    replayBytes: way.outage.replayBytes,
    sinceMs: way.sinceMs,
    dial: () => way.dial(),
    others: () => context.flushTimes(way.flushKey),
    tell: telling(way, context, told),
  }
}

function telling(
  way: WayBack,
  { log }: Pick<SessionContext, 'log'>,
  { facts: base, meter, outage }: Told,
): (event: ResumeEvent) => void {
  let isRefusalTold = false
  return event => {
    const facts = { ...base, upstream: way.upstreamText }
    switch (event.kind) {
      case 'lost':
        isRefusalTold = false
        outage.isOn = true
        log.warn({ ...facts, inFlight: event.inFlight, ...cause(event.error) }, 'upstream lost')
        break
      case 'failed':
        // That it is not there yet is what is waited for; that it is another one, somebody has to see to.
        if (!isRefusalTold && event.error instanceof UpstreamError && event.error.code === 'REFUSED') {
          isRefusalTold = true
          log.warn({ ...facts, err: event.error }, 'upstream not taken back')
        } else log.debug({ ...facts, err: event.error }, 'upstream still away')
        break
      case 'back': {
        const { ms, again, replayed } = event
        outage.isOn = false
        meter.sentAgain += again + replayed
        log.info({ ...facts, ms, again, ...(replayed > 0 && { replayed }) }, 'upstream back')
        if (event.isUnsure) log.warn(facts, 'writes can not be vouched for')
        break
      }
      case 'writes lost':
        meter.lostBytes += event.bytes
        log.error({ ...facts, bytes: event.bytes, ranges: event.ranges }, 'unflushed writes lost')
        break
      case 'given up':
        log.error({ ...facts, ms: event.ms, ...cause(event.error) }, 'upstream given up')
        break
      default:
        event satisfies never
    }
  }
}

function cause(error: Error | undefined): { err?: Error } {
  return error === undefined ? {} : { err: error }
}
