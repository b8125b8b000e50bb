import { monitorEventLoopDelay } from 'node:perf_hooks'
import { gauge, type MetricFamily } from './metric-family.ts'

const RESOLUTION_MS = 10
const NS_PER_S = 1e9

/** How late the event loop is. */
export interface EventLoopDelay {
  /** Since the last time that somebody asked. */
  families(): readonly MetricFamily[]
}

/** Begins to watch the event loop of this process; keeps no process alive. */
export function watchEventLoop(): EventLoopDelay {
  const delay = monitorEventLoopDelay({ resolution: RESOLUTION_MS })
  delay.enable()
  const seconds = (ns: number): number => (Number.isFinite(ns) ? Math.max(ns / NS_PER_S - RESOLUTION_MS / 1000, 0) : 0)
  const since = 'since the last scrape; of several processes the worst.'
  return {
    families: () => {
      const values = [
        gauge(
          'nbdgate_event_loop_lag_mean_seconds',
          `Mean lag of the event loop ${since}`,
          [[seconds(delay.mean)]],
          'max',
        ),
        gauge(
          'nbdgate_event_loop_lag_p99_seconds',
          `99th percentile of it ${since}`,
          [[seconds(delay.percentile(99))]],
          'max',
        ),
        gauge(
          'nbdgate_event_loop_lag_max_seconds',
          `Longest lag of the event loop ${since}`,
          [[seconds(delay.max)]],
          'max',
        ),
      ]
      delay.reset()
      return values
    },
  }
}
