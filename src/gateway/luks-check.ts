import type { LuksConfig } from '../config/config.ts'
import { ProtocolError } from '../protocol/errors.ts'
import { readFirst } from '../relay/read-first.ts'
import type { RangeGuard } from '../relay/requests.ts'
import { type Found, findLuks, type LuksGuard } from '../sharing/luks-guard.ts'
import { StreamError } from '../stream/errors.ts'
import { Wire } from '../stream/wire.ts'
import { UpstreamError } from '../upstreams/errors.ts'
import type { OpenExport } from './open-export.ts'

/** How long an upstream may take to hand over the header: all of it together. */
const READ_MS = 5000

/** Looks for the LUKS header of an export that is open, over its own connection. @throws UpstreamError HANDSHAKE */
export async function checkLuks(opened: OpenExport, { atBytes }: LuksConfig): Promise<Found> {
  const { stream, sizeBytes, structured } = opened
  const wire = new Wire(stream, READ_MS)
  try {
    const read = (offset: number, length: number) => readFirst(wire, offset, length, structured)
    const found = await findLuks(read, atBytes, sizeBytes)
    if (wire.bufferedBytes > 0) throw new ProtocolError('UNEXPECTED_DATA', 'bytes that nobody asked for')
    return found
  } catch (error) {
    if (!(error instanceof ProtocolError || error instanceof StreamError)) throw error
    throw new UpstreamError('HANDSHAKE', `the LUKS header can not be read: ${error.message}`, { cause: error })
  }
}

interface Entry {
  readonly guard: LuksGuard
  users: number
}

/** The guards of exports: sessions of one export share what is known of its header, for what one writes counts for all. */
export interface Guards {
  /** The guard of an export; `fresh` if nobody has one. Each take is followed by one `giveBack`. */
  take(name: string, fresh: LuksGuard): RangeGuard
  giveBack(name: string): void
}

/** Guards of sessions in this process. */
export class LuksGuards implements Guards {
  readonly #entries = new Map<string, Entry>()
  #isFrozen = false

  take(name: string, fresh: LuksGuard): LuksGuard {
    const entry = this.#entries.get(name) ?? { guard: fresh, users: 0 }
    this.#entries.set(name, entry)
    entry.users++
    if (this.#isFrozen) entry.guard.freeze()
    return entry.guard
  }

  /** Another process of the gateway lets sessions in: headers stay as they are here. */
  freeze(): void {
    this.#isFrozen = true
    for (const { guard } of this.#entries.values()) guard.freeze()
  }

  giveBack(name: string): void {
    const entry = this.#entries.get(name)
    if (entry !== undefined && --entry.users === 0) this.#entries.delete(name)
  }
}
