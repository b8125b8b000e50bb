import { ProtocolError } from '../protocol/errors.ts'
import type { ByteSink, ByteStream } from '../stream/byte-stream.ts'

/**
 * The connection to the upstream as the relay has it: one stream after the other, if somebody sees to it. While there is
 * none, what is written goes nowhere: whoever puts another one in its place sends again what has to be.
 */
export class UpstreamLink implements ByteStream {
  #stream: ByteStream
  #sink: ByteSink | undefined
  #expectedBytes: (() => number) | undefined
  #state: 'up' | 'away' | 'over' = 'up'
  #isEnding = false
  readonly #lost: ((error?: Error) => void) | undefined

  /** `lost` is told when the stream dies, which then is not the end of the link. Without it it is. */
  constructor(stream: ByteStream, lost?: (error?: Error) => void) {
    this.#stream = stream
    this.#lost = lost
  }

  /** Whether there is no stream now, but may be one again. */
  get isAway(): boolean {
    return this.#state === 'away'
  }

  get unsentBytes(): number {
    return this.#state === 'up' ? this.#stream.unsentBytes : 0
  }

  get headroomBytes(): number {
    return this.#stream.headroomBytes
  }

  start(sink: ByteSink, expectedBytes: () => number): void {
    this.#sink = sink
    this.#expectedBytes = expectedBytes
    this.#stream.start(this.#earOf(this.#stream), expectedBytes)
  }

  /** Another stream takes the place of the one that was lost; it delivers after this has returned. */
  adopt(stream: ByteStream): void {
    this.#stream = stream
    this.#state = 'up'
    stream.start(this.#earOf(stream), this.#expectedBytes)
  }

  pause(): void {
    if (this.#state === 'up') this.#stream.pause()
  }

  resume(): void {
    if (this.#state === 'up') this.#stream.resume()
  }

  write(bytes: Uint8Array, sent?: () => void): void {
    if (this.#state === 'up') this.#stream.write(bytes, sent)
    else if (sent !== undefined) queueMicrotask(sent)
  }

  cork(): void {
    this.#stream.cork()
  }

  uncork(): void {
    this.#stream.uncork()
  }

  release(chunk: Buffer): void {
    this.#stream.release(chunk)
  }

  end(): void {
    this.#isEnding = true
    if (this.#state === 'up') this.#stream.end()
    else this.#close()
  }

  destroy(): void {
    this.#isEnding = true
    if (this.#state === 'up') this.#stream.destroy()
    else this.#close()
  }

  /** Over while there is no stream: somebody waits to be told. */
  #close(): void {
    if (this.#state === 'over') return
    this.#state = 'over'
    const sink = this.#sink
    queueMicrotask(() => sink?.closed())
  }

  #earOf(stream: ByteStream): ByteSink {
    const isCurrent = (): boolean => this.#state === 'up' && this.#stream === stream
    const lose = (error?: Error): boolean => {
      if (this.#lost === undefined || this.#isEnding) return false
      this.#state = 'away'
      stream.destroy()
      this.#lost(error)
      return true
    }
    return {
      data: chunk => (isCurrent() ? this.#sink?.data(chunk) : stream.release(chunk)),
      ended: () => {
        if (isCurrent() && !lose()) this.#sink?.ended()
      },
      closed: error => {
        // One that has closed over what it was sent is not lost: another connection would be sent the same.
        if (!isCurrent() || (!(error instanceof ProtocolError) && lose(error))) return
        this.#state = 'over'
        this.#sink?.closed(error)
      },
      drained: () => {
        if (isCurrent()) this.#sink?.drained()
      },
    }
  }
}
