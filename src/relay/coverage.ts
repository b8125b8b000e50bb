/**
 * Which bytes of a READ have come, where its chunks do not come one after the other: none may come twice, for then
 * others would be missing from a reply that claims to be whole. Chunks in order, which is what servers send, never get
 * here.
 */

/** Most pieces that the chunks of one READ may be scattered in at a time; qemu and nbdkit send them in order. */
const MAX_PIECES = 4096

interface Piece {
  from: number
  to: number
}

export class Coverage {
  /** Pieces of a slot's READ in order, none of which touches the next. */
  readonly #scattered = new Map<number, Piece[]>()

  /** Whether a slot's READ is looked after here. */
  has(slot: number): boolean {
    return this.#scattered.size > 0 && this.#scattered.has(slot)
  }

  /**
   * Notes that the bytes `from` to `to` of a slot's READ have come. `before`: how many had come in order when it was first
   * noted. False if one of them had come already, or they come in more pieces than can be remembered.
   */
  add(slot: number, before: number, { from, to }: Readonly<Piece>): boolean {
    const pieces = this.#scattered.get(slot) ?? (before > 0 ? [{ from: 0, to: before }] : [])
    const at = placeOf(pieces, from)
    const [left, right] = [pieces[at - 1], pieces[at]]
    if ((left !== undefined && left.to > from) || (right !== undefined && right.from < to)) return false
    if (left?.to === from && right?.from === to) {
      left.to = right.to
      pieces.splice(at, 1)
    } else if (left?.to === from) left.to = to
    else if (right?.from === to) right.from = from
    else pieces.splice(at, 0, { from, to })
    this.#scattered.set(slot, pieces)
    return pieces.length <= MAX_PIECES
  }

  /** What has come of a slot's READ, in order; undefined where it is not looked after here. */
  piecesOf(slot: number): readonly Readonly<Piece>[] | undefined {
    return this.#scattered.get(slot)
  }

  /** The slot's READ is over. */
  forget(slot: number): void {
    if (this.#scattered.size > 0) this.#scattered.delete(slot)
  }
}

/** How many of the pieces begin at `from` or before. */
function placeOf(pieces: readonly Piece[], from: number): number {
  let [low, high] = [0, pieces.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((pieces[middle]?.from ?? 0) <= from) low = middle + 1
    else high = middle
  }
  return low
}
