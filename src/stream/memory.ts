/** What a share may hold however much the others do: nobody stands still. */
export const SURE_BYTES = 128 * 1024

/**
 * Payload bytes that the sessions of a process hold, all together. None of them knows of the others: each may hold as much
 * as is left over. So one alone has half of it, and of many who want more each has the same, and a part is left for who
 * comes next (dynamic thresholds: Choudhury and Hahne, 1998). Who has little goes on; who has much waits until it has less.
 */
export class Memory {
  #limitBytes: number
  #heldBytes = 0

  constructor(limitBytes: number = Infinity) {
    this.#limitBytes = limitBytes
  }

  get limitBytes(): number {
    return this.#limitBytes
  }

  get heldBytes(): number {
    return this.#heldBytes
  }

  /** Less than nothing when shares hold what they may hold in any case. */
  get leftBytes(): number {
    return this.#limitBytes - this.#heldBytes
  }

  /** Another limit from now on. */
  setLimit(bytes: number): void {
    this.#limitBytes = bytes
  }

  /** For Share alone. */
  count(bytes: number): void {
    this.#heldBytes += bytes
  }
}

/** What those need to know of a share who take of it before they begin. */
export type Room = Pick<Share, 'mostBytes' | 'add'>

/** What one side of a session holds of it. */
export class Share {
  readonly #memory: Memory
  readonly #ownBytes: number
  #bytes = 0
  #isOver = false

  /** It never may hold more than `ownBytes`. */
  constructor(memory: Memory, ownBytes: number) {
    this.#memory = memory
    this.#ownBytes = Math.max(SURE_BYTES, ownBytes)
  }

  get bytes(): number {
    return this.#bytes
  }

  /** How much it may hold now. Who holds as much takes no more, but brings to its end what has begun. */
  get mostBytes(): number {
    const { leftBytes } = this.#memory
    if (leftBytes >= this.#ownBytes) return this.#ownBytes
    return leftBytes > SURE_BYTES ? leftBytes : SURE_BYTES
  }

  /** So much it holds now. */
  hold(bytes: number): void {
    if (this.#isOver) return
    this.#memory.count(bytes - this.#bytes)
    this.#bytes = bytes
  }

  /** So much more, or less. */
  add(bytes: number): void {
    this.hold(this.#bytes + bytes)
  }

  /** It holds nothing any more, whatever it is told. */
  end(): void {
    this.hold(0)
    this.#isOver = true
  }
}
