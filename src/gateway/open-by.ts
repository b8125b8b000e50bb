import type { StandingConfig, UpstreamConfig } from '../config/config.ts'
import { upstreamText } from '../config/upstream-text.ts'
import type { DialQueue } from '../upstreams/dial-queue.ts'
import { UpstreamError } from '../upstreams/errors.ts'
import { alignExport } from './align.ts'
import { type OpenExport, type Opening, openExport } from './open-export.ts'
import { splitExport } from './split-export.ts'
import { spreadExport } from './spread-export.ts'

/** An export as it was opened, and by which way. */
export interface OpenedBy {
  readonly opened: OpenExport
  readonly way: UpstreamConfig
}

/**
 * Opens an export by the first of its ways that can be used. `accept` may turn one down.
 * @throws UpstreamError if none can be, and what `accept` throws
 */
export async function openBy(
  upstream: StandingConfig,
  opening: Omit<Opening, 'upstream'>,
  dials: DialQueue,
  accept: (opened: OpenExport, way: UpstreamConfig) => Promise<OpenExport> = async opened => opened,
): Promise<OpenedBy> {
  const open = async (way: UpstreamConfig): Promise<OpenedBy> => {
    const opened = await dials.run(way, () => openExport({ ...opening, upstream: way }))
    const spread = await spreadExport(opened, { ...opening, upstream: way }, dials)
    const { memory } = opening
    return { opened: await accept(alignExport(splitExport(spread, memory.joined), memory.joined), way), way }
  }
  if (upstream.kind !== 'ways') return await open(upstream)
  const failures: { readonly way: UpstreamConfig; readonly error: UpstreamError }[] = []
  for (const way of upstream.ways) {
    try {
      return await open(way)
    } catch (error) {
      if (!(error instanceof UpstreamError)) throw error
      failures.push({ way, error })
    }
  }
  const last = failures.at(-1)?.error
  const told = failures.map(({ way, error }) => `${upstreamText(way)}: ${error.message}`).join('; ')
  throw new UpstreamError(last?.code ?? 'DIAL', told, { cause: last?.cause })
}
