import type { LuksConfig, OutageConfig, StandingConfig, UpstreamConfig } from '../config/config.ts'
import { upstreamText } from '../config/upstream-text.ts'
import { keyOf } from '../policy/identity.ts'
import { TransmissionFlag } from '../protocol/constants.ts'
import type { Fence } from '../sharing/fence.ts'
import type { DialQueue } from '../upstreams/dial-queue.ts'
import { UpstreamError } from '../upstreams/errors.ts'
import type { Asker, Control, Granted } from './control.ts'
import { checkLuks } from './luks-check.ts'
import { openBy } from './open-by.ts'
import type { OpenExport, Opening } from './open-export.ts'

/** What an export was opened with. */
export interface Dialled {
  readonly opening: Omit<Opening, 'upstream'>
  readonly way: UpstreamConfig
  readonly outage: OutageConfig
  /** When, by `commonMs`. */
  readonly sinceMs: number
}

/** Beside other connections of the same holder no write is made again: it could go over theirs. */
export function besideOthers(outage: OutageConfig, others: readonly number[] = []): OutageConfig {
  return others.length > 0 ? { ...outage, replayBytes: 0 } : outage
}

export interface WayBackOptions extends Dialled {
  readonly opened: OpenExport
  /** What ends with the lease. */
  readonly fence: Fence | undefined
  readonly asker: Asker
  readonly control: Control
  readonly dials: DialQueue
  /** What is to be dialled now: what was made ready is made so again. @throws UpstreamError */
  readonly find: (ruling: Granted) => Promise<StandingConfig | { readonly kind: 'refused'; readonly message: string }>
}

/** The way of a session back to an upstream that has died. */
export class WayBack {
  readonly #options: WayBackOptions
  #upstream: UpstreamConfig

  constructor(options: WayBackOptions) {
    this.#options = options
    this.#upstream = options.way
  }

  get outage(): OutageConfig {
    return this.#options.outage
  }

  /** Since when the upstream is there. */
  get sinceMs(): number {
    return this.#options.sinceMs
  }

  /** Where the upstream is, for logs. */
  get upstreamText(): string {
    return upstreamText(this.#upstream)
  }

  /** What connections have in common that flush for each other. */
  get flushKey(): string {
    const { asker, opened } = this.#options
    return `${keyOf(asker.identity)} export ${opened.name}`
  }

  /**
   * Connects once more to the export, by the upstream that it has now, and sees to it that it is the same one. Nothing is
   * written to it beyond the session's term.
   * @throws UpstreamError, REFUSED if it is another one
   */
  async dial(): Promise<OpenExport> {
    const { opened, opening, fence, asker, control, dials, find } = this.#options
    const ruling = await control.decide(opened.name, asker)
    if (ruling.kind === 'refused') throw new UpstreamError('REFUSED', `no longer allowed: ${ruling.reason}`)
    const upstream = await find(ruling)
    if (upstream.kind === 'refused') throw new UpstreamError('REFUSED', upstream.message)
    const contexts = { how: 'keep', queries: opened.contextIds.size === 0 ? [] : opened.contexts } as const
    const again = await openBy(upstream, { ...opening, contexts }, dials, async (found, way) => {
      if (fence !== undefined) found.stream.gate(fence.isOpen)
      return await this.#same(found, way, ruling.luks)
    })
    this.#upstream = again.way
    return again.opened
  }

  async #same(found: OpenExport, way: UpstreamConfig, luks: LuksConfig | undefined): Promise<OpenExport> {
    try {
      const { opened, way: first } = this.#options
      // What stands at another place may go by another name.
      const isElsewhere = upstreamText(way) !== upstreamText(first)
      const difference = differenceOf(opened, found) ?? (isElsewhere ? undefined : newNameOf(opened, found))
      if (difference !== undefined) throw another(difference)
      if (luks !== undefined && (await checkLuks(found, luks)).kind === 'none') throw another('it has no LUKS header')
      return found
    } catch (error) {
      found.stream.destroy()
      throw error
    }
  }
}

function another(difference: string): UpstreamError {
  return new UpstreamError('REFUSED', `this is not the same export: ${difference}`)
}

/** What a client would notice; undefined: nothing. An export that can do more than before is the same to it. */
function differenceOf(before: OpenExport, now: OpenExport): string | undefined {
  if (now.sizeBytes !== before.sizeBytes) return `it has ${now.sizeBytes} bytes, not ${before.sizeBytes}`
  const lacks = before.flags & ~now.flags
  const isReadOnly = now.flags & ~before.flags & TransmissionFlag.READ_ONLY
  if (lacks !== 0 || isReadOnly !== 0) return `it has flags ${hex(now.flags)}, not ${hex(before.flags)}`
  const isSmaller = now.blockSize.maximumPayload < before.blockSize.maximumPayload
  if (now.blockSize.minimum > before.blockSize.minimum || now.alignment > before.alignment || isSmaller)
    return 'it has other block sizes'
  const [kind, former] = [now.structured, before.structured]
  if (kind.upstream !== former.upstream || kind.extended !== former.extended) return 'it has another kind of replies'
  return now.contextIds.size === before.contextIds.size ? undefined : 'it has other metadata contexts'
}

/** The marker of an export, where its server gives it one. */
function newNameOf({ told: before }: OpenExport, { told: now }: OpenExport): string | undefined {
  return before === undefined || now === before ? undefined : 'its server calls it otherwise'
}

function hex(flags: number): string {
  return `0x${flags.toString(16)}`
}
