import { AggregatorRegistry, Registry } from 'prom-client'
import type { MetricFamily } from './metric-family.ts'

/** What Prometheus expects the text to be called. */
export const METRICS_TYPE: string = Registry.PROMETHEUS_CONTENT_TYPE

/** The metrics of one or more processes, put together, in Prometheus' text form. */
export async function metricsText(processes: readonly (readonly MetricFamily[])[]): Promise<string> {
  return await AggregatorRegistry.aggregate([...processes]).metrics()
}
