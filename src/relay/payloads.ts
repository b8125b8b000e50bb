import type { ByteStream } from '../stream/byte-stream.ts'

/** A chunk of the client's with payload in it that may have to be sent again. */
export interface Held {
  readonly chunk: Buffer
  /** WRITEs in it that have not been answered. */
  uses: number
  /** What becomes of it when the last of them is: nothing before its bytes have left; given back if it may be. */
  state: 'leaving' | 'left' | 'loose'
}

/**
 * The payloads of WRITEs in flight: not copies, but the client's chunks, which are given back only when all WRITEs in them
 * have been answered. By slot, with an object for each chunk and none for a request that lies in one chunk.
 */
export class Payloads {
  readonly #client: ByteStream
  #bytes = 0
  #chunk: Buffer | undefined
  #base = 0
  #current: Held | undefined
  readonly #first: (Held | undefined)[] = []
  readonly #from: number[] = []
  readonly #more: (Held[] | undefined)[] = []

  constructor(client: ByteStream) {
    this.#client = client
  }

  /** Memory that is kept, in bytes. */
  get bytes(): number {
    return this.#bytes
  }

  /** From now on pieces are of this chunk, whose byte `base` is the first that the framer sees. */
  begin(chunk: Buffer, base: number): void {
    if (this.#chunk !== chunk) {
      // Joined with what came after it: nobody will say that it has left.
      if (this.#current !== undefined) this.#leave(this.#current, 'loose')
      this.#current = undefined
    }
    this.#chunk = chunk
    this.#base = base
  }

  /** A piece of the payload of a slot's WRITE begins at `from` of what the framer sees. */
  add(slot: number, from: number): void {
    if (this.#chunk === undefined) return
    if (this.#current === undefined) {
      this.#current = { chunk: this.#chunk, uses: 0, state: 'leaving' }
      this.#bytes += this.#chunk.length
    }
    this.#use(slot, this.#current, this.#base + from)
  }

  /** The payload of a slot's WRITE is in memory of its own, from `from` on. */
  addWhole(slot: number, memory: Buffer, from: number): void {
    this.#bytes += memory.length
    this.#use(slot, { chunk: memory, uses: 0, state: 'loose' }, from)
  }

  /** All of the current chunk has been relayed; what is kept of it. */
  end(): Held | undefined {
    const held = this.#current
    this.#current = undefined
    this.#chunk = undefined
    return held
  }

  /** What was kept has left for the upstream. */
  left(held: Held): void {
    this.#leave(held, 'left')
  }

  /** What was kept will not be given back: parts of it may be on their way. */
  loosen(held: Held): void {
    this.#leave(held, 'loose')
  }

  /** The pieces of a slot's payload as far as it has come: `bytes`. */
  of(slot: number, bytes: number): readonly Buffer[] {
    const pieces: Buffer[] = []
    let left = bytes
    let from = this.#from[slot] ?? 0
    for (const held of [this.#first[slot] ?? [], this.#more[slot] ?? []].flat()) {
      const piece = held.chunk.subarray(from, Math.min(held.chunk.length, from + left))
      pieces.push(piece)
      left -= piece.length
      from = 0
    }
    if (left !== 0) throw new RangeError('a payload that was not kept whole')
    return pieces
  }

  /** A slot's WRITE has been answered. */
  drop(slot: number): void {
    const first = this.#first[slot]
    if (first === undefined) return
    const more = this.#more[slot]
    this.#first[slot] = undefined
    this.#unuse(first)
    if (more === undefined) return
    this.#more[slot] = undefined
    for (const held of more) this.#unuse(held)
  }

  #use(slot: number, held: Held, from: number): void {
    held.uses++
    const more = this.#more[slot]
    if (this.#first[slot] === undefined) {
      this.#first[slot] = held
      this.#from[slot] = from
    } else if (more === undefined) this.#more[slot] = [held]
    else more.push(held)
  }

  #unuse(held: Held): void {
    if (--held.uses === 0 && held.state !== 'leaving') this.#free(held)
  }

  #leave(held: Held, state: Held['state']): void {
    held.state = state
    if (held.uses === 0) this.#free(held)
  }

  #free({ chunk, state }: Held): void {
    this.#bytes -= chunk.length
    if (state === 'left') this.#client.release(chunk)
  }
}
