import { bootMs } from '../platform/libc.ts'

/** How long leases last: until a moment of `bootMs`. Plain data, so that it can be told to other processes. */
export interface Term {
  /** All leases of a gateway share one; a gateway that has lost it begins another. */
  readonly id: string
  readonly untilMs: number
}

/**
 * Keeps sessions from outliving their leases, whatever has become of those who told them. It passes once and for good: by
 * its timer, or when it is asked, which a process that was stopped does before it does anything else.
 */
export class Fence {
  #untilMs: number
  #why = 'leases lost: they have run out'
  #hasPassed = false
  #timer: NodeJS.Timeout | undefined
  #ends = new Set<(why: string) => void>()

  constructor(untilMs: number) {
    this.#untilMs = untilMs
    this.#arm()
  }

  /** Whether what it fences may still write. */
  readonly isOpen = (): boolean => {
    if (bootMs() >= this.#untilMs) this.#pass()
    return !this.#hasPassed
  }

  /** What to do when it passes; at once if it has. Returns what takes that back. */
  onPassed(end: (why: string) => void): () => void {
    if (this.#hasPassed) end(this.#why)
    else this.#ends.add(end)
    return () => this.#ends.delete(end)
  }

  /** A later end. What has passed does not come back. */
  extend(untilMs: number): void {
    if (!this.isOpen()) return
    this.#untilMs = Math.max(this.#untilMs, untilMs)
    this.#arm()
  }

  /** Passes now. */
  end(why: string): void {
    if (!this.#hasPassed) this.#why = why
    this.#pass()
  }

  #arm(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.isOpen() && this.#arm(), Math.ceil(this.#untilMs - bootMs()))
    this.#timer.unref()
  }

  #pass(): void {
    if (this.#hasPassed) return
    this.#hasPassed = true
    clearTimeout(this.#timer)
    const ends = this.#ends
    this.#ends = new Set()
    for (const end of ends) end(this.#why)
  }
}

/** The fences of one process, by term. */
export class Fences {
  readonly #fences = new Map<string, Fence>()

  /** The fence of a term. */
  of({ id, untilMs }: Term): Fence {
    const known = this.#fences.get(id)
    const fence = known ?? new Fence(untilMs)
    if (known === undefined) this.#fences.set(id, fence)
    return fence
  }

  /** A term lasts longer. */
  extend({ id, untilMs }: Term): void {
    this.#fences.get(id)?.extend(untilMs)
  }

  /** A term is over, also for those who will be told of it later. */
  end(id: string, why: string): void {
    const fence = this.of({ id, untilMs: 0 })
    fence.end(why)
  }
}
