import { readdirSync, readlinkSync } from 'node:fs'
import type { Duplex } from 'node:stream'
import type { Cmd } from '../../../src/protocol/constants.ts'
import { encodeRequest } from '../../../src/protocol/request.ts'

/** What came back for one request. */
export interface Answer {
  readonly error: number
  readonly data: Buffer
}

/** What to ask; absent fields are 0. */
export interface Ask {
  readonly type: Cmd
  readonly offset?: number
  readonly length?: number
  readonly flags?: number
  readonly payload?: Buffer
}

/** The smallest client of the transmission phase: many requests at once, answers by cookie. */
export class FileClient {
  readonly #stream: Duplex
  readonly #waiting = new Map<bigint, { dataBytes: number; resolve: (answer: Answer) => void }>()
  #bytes = Buffer.alloc(0)
  #cookie = 0xffff_ffff_0000_0000n

  constructor(stream: Duplex) {
    this.#stream = stream
    stream.on('data', (chunk: Buffer) => this.#take(chunk))
  }

  ask(ask: Ask): Promise<Answer> {
    const cookie = this.#cookie++
    const length = ask.payload?.length ?? ask.length ?? 0
    const { type, flags = 0, offset = 0 } = ask
    const head = encodeRequest({ type, flags, cookie, offset: BigInt(offset), length })
    const answer = new Promise<Answer>(resolve => {
      this.#waiting.set(cookie, { dataBytes: type === 0 ? length : 0, resolve })
    })
    // Whatever carries it may reuse the memory: the payload is the caller's.
    this.#stream.write(ask.payload === undefined ? head : Buffer.concat([head, ask.payload]))
    return answer
  }

  #take(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk])
    while (this.#bytes.length >= 16) {
      const cookie = this.#bytes.readBigUInt64BE(8)
      const waiting = this.#waiting.get(cookie)
      if (this.#bytes.readUInt32BE(0) !== 0x67446698 || waiting === undefined) throw new Error('an answer to nothing')
      const error = this.#bytes.readUInt32BE(4)
      const end = 16 + (error === 0 ? waiting.dataBytes : 0)
      if (this.#bytes.length < end) return
      this.#waiting.delete(cookie)
      waiting.resolve({ error, data: this.#bytes.subarray(16, end) })
      this.#bytes = this.#bytes.subarray(end)
    }
  }
}

/** Destroys a stream and waits until it has closed, whatever ended it. */
export async function closeStream(stream: Duplex): Promise<void> {
  if (stream.closed) return
  stream.on('error', () => {})
  await new Promise<void>(resolve => {
    stream.once('close', resolve)
    stream.destroy()
  })
}

/** How many descriptors of this process stand for `path`. */
export function descriptorsOf(path: string): number {
  return readdirSync('/proc/self/fd').filter(fd => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`) === path
    } catch {
      return false
    }
  }).length
}
