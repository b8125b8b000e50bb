import { bootMs } from '../platform/libc.ts'
import { Watchdog } from '../platform/watchdog.ts'
import type { Access } from './modes.ts'

/** How long leases last: until a moment of `bootMs`. Plain data, so that it can be told to other processes. */
export interface Term {
  /** All leases of a gateway share one; a gateway that has lost it begins another. */
  readonly id: string
  readonly untilMs: number
  /** A moment after that, and before anybody else may write. */
  readonly goneMs: number
}

/**
 * Keeps sessions from outliving their leases, whatever has become of those who told them. It passes once and for good: by
 * its timer, or when it is asked, which a process that was stopped does before it does anything else. A process that may have
 * been stopped between asking and writing does nothing any more: where somebody may write and the fence has not passed in
 * order, the kernel ends the process.
 */
export class Fence {
  #term: Omit<Term, 'id'>
  #why = 'leases lost: they have run out'
  #hasPassed = false
  #timer: NodeJS.Timeout | undefined
  #ends = new Set<(why: string) => void>()
  #writers = 0
  #watchdog: Watchdog | undefined

  constructor(term: Omit<Term, 'id'>) {
    this.#term = term
    this.#arm()
  }

  /** Whether what it fences may still write. */
  readonly isOpen = (): boolean => {
    if (bootMs() >= this.#term.untilMs) this.#pass()
    return !this.#hasPassed
  }

  /** Holds somebody who does `end` when it passes; at once if it has. Returns what lets go of it. */
  hold(access: Access, end: (why: string) => void): () => void {
    if (!this.isOpen()) {
      end(this.#why)
      return () => {}
    }
    const own = (why: string): void => end(why)
    this.#ends.add(own)
    if (access === 'write' && ++this.#writers === 1) this.#watch()
    return () => {
      if (this.#ends.delete(own) && access === 'write' && --this.#writers === 0) this.#watchdog?.clear()
    }
  }

  /** A later end. What has passed does not come back. */
  extend({ untilMs, goneMs }: Omit<Term, 'id'>): void {
    if (!this.isOpen() || untilMs <= this.#term.untilMs) return
    this.#term = { untilMs, goneMs }
    this.#arm()
    if (this.#writers > 0) this.#watch()
  }

  /** Passes now. */
  end(why: string): void {
    if (!this.#hasPassed) this.#why = why
    this.#pass()
  }

  #arm(): void {
    clearTimeout(this.#timer)
    this.#timer = setTimeout(() => this.isOpen() && this.#arm(), Math.ceil(this.#term.untilMs - bootMs()))
    this.#timer.unref()
  }

  #watch(): void {
    this.#watchdog ??= new Watchdog()
    this.#watchdog.set(this.#term.goneMs)
  }

  #pass(): void {
    if (this.#hasPassed) return
    this.#hasPassed = true
    clearTimeout(this.#timer)
    const ends = this.#ends
    this.#ends = new Set()
    for (const end of ends) end(this.#why)
    this.#watchdog?.close()
  }
}

/** The fences of one process, by term. */
export class Fences {
  readonly #fences = new Map<string, Fence>()

  /** The fence of a term. */
  of({ id, ...term }: Term): Fence {
    const known = this.#fences.get(id)
    const fence = known ?? new Fence(term)
    if (known === undefined) this.#fences.set(id, fence)
    return fence
  }

  /** A term lasts longer. */
  extend({ id, ...term }: Term): void {
    this.#fences.get(id)?.extend(term)
  }

  /** A term is over, also for those who will be told of it later. */
  end(id: string, why: string): void {
    const fence = this.of({ id, untilMs: 0, goneMs: 0 })
    fence.end(why)
  }
}
