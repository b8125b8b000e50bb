/**
 * Calls between two processes of one gateway. Each side serves an object of functions and calls those of the other: with an
 * answer (`ask`) or without (`tell`). Calls arrive in the order in which they were made; what is called in one turn of the loop
 * leaves together, for a message costs more than what is in it. A handle goes along with the call that gives it away.
 *
 * What is called is in calls.ts. Values are plain data: what the structured clone algorithm takes.
 */
import type { Socket } from 'node:net'
import { AuditError } from '../observe/errors.ts'

/** How a link reaches the other process. */
export interface Channel {
  send(message: readonly Entry[], handle?: Socket): void
}

/** One call or answer. */
export type Entry =
  /** `id` 0: nobody waits for an answer. */
  | readonly ['call', id: number, name: string, args: readonly unknown[]]
  | readonly ['answer', id: number, value: unknown]
  | readonly ['failed', id: number, error: Failure]

interface Failure {
  readonly name: string
  readonly code?: unknown
  readonly message: string
}

type Args<F> = F extends (...args: infer A) => unknown ? A : never
type Answer<F> = F extends (...args: never[]) => infer R ? Awaited<R> : never
type Name<T> = keyof T & string

interface Asked {
  readonly resolve: (value: never) => void
  readonly reject: (error: Error) => void
}

/** The other process has ended, and with it all that was asked of it. */
export class LinkClosedError extends Error {
  constructor() {
    super('the other process has ended')
    this.name = 'LinkClosedError'
  }
}

/** `Theirs`: the functions that the other process serves. */
export class Link<Theirs> {
  readonly #channel: Channel
  readonly #ours: object
  readonly #asked = new Map<number, Asked>()
  #last = 0
  #batch: Entry[] = []
  #flushing: NodeJS.Immediate | undefined
  #isClosed = false

  constructor(channel: Channel, ours: object) {
    this.#channel = channel
    this.#ours = ours
  }

  /** Calls and waits for the answer. Rejects with what the function throws, and with LinkClosedError. */
  ask<N extends Name<Theirs>>(name: N, ...args: Args<Theirs[N]>): Promise<Answer<Theirs[N]>> {
    if (this.#isClosed) return Promise.reject(new LinkClosedError())
    return new Promise((resolve, reject) => {
      const id = ++this.#last
      this.#asked.set(id, { resolve, reject })
      this.#post(['call', id, name, args])
    })
  }

  /** Calls; nobody hears what comes of it. */
  tell<N extends Name<Theirs>>(name: N, ...args: Args<Theirs[N]>): void {
    this.#post(['call', 0, name, args])
  }

  /** Calls with a socket as the last argument, which is not this process's any more. */
  give<N extends Name<Theirs>>(name: N, socket: Socket, ...args: readonly unknown[]): void {
    this.flush()
    if (!this.#isClosed) this.#channel.send([['call', 0, name, args]], socket)
  }

  /** Sends what waits for the end of this turn. */
  flush(): void {
    clearImmediate(this.#flushing)
    this.#flushing = undefined
    const batch = this.#batch
    this.#batch = []
    if (batch.length > 0 && !this.#isClosed) this.#channel.send(batch)
  }

  /** What the channel has brought. */
  readonly receive = (message: unknown, handle?: unknown): void => {
    // Whoever can write to the channel is this program: what it sends has the form of Entry.
    for (const entry of message as readonly Entry[]) {
      if (entry[0] === 'call')
        void this.#serve(entry[1], entry[2], handle === undefined ? entry[3] : [...entry[3], handle])
      else this.#settle(entry)
    }
  }

  /** The other process is gone. */
  close(): void {
    this.#isClosed = true
    clearImmediate(this.#flushing)
    this.#batch = []
    for (const { reject } of this.#asked.values()) reject(new LinkClosedError())
    this.#asked.clear()
  }

  async #serve(id: number, name: string, args: readonly unknown[]): Promise<void> {
    const serve: unknown = Reflect.get(this.#ours, name)
    if (typeof serve !== 'function') throw new TypeError(`nobody serves ${name}`)
    if (id === 0) {
      Reflect.apply(serve, this.#ours, args)
      return
    }
    try {
      this.#post(['answer', id, await Reflect.apply(serve, this.#ours, args)])
    } catch (error) {
      this.#post(['failed', id, failureOf(error)])
    }
  }

  #settle(entry: Exclude<Entry, readonly ['call', ...unknown[]]>): void {
    const asked = this.#asked.get(entry[1])
    this.#asked.delete(entry[1])
    if (entry[0] === 'answer') asked?.resolve(entry[2] as never)
    else asked?.reject(errorOf(entry[2]))
  }

  #post(entry: Entry): void {
    if (this.#isClosed) return
    this.#batch.push(entry)
    this.#flushing ??= setImmediate(() => this.flush())
  }
}

function failureOf(error: unknown): Failure {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error) }
  return { name: error.name, message: error.message, ...('code' in error && { code: error.code }) }
}

/** The errors that callers tell apart come back as what they were. */
function errorOf({ name, code, message }: Failure): Error {
  if (name === 'AuditError' && isAuditCode(code)) return new AuditError(code, message)
  const error = new Error(message)
  error.name = name
  return error
}

const AUDIT_CODES = ['LOCKED', 'CORRUPT', 'CHANGED', 'WRITE', 'SEAL'] as const

function isAuditCode(code: unknown): code is AuditError['code'] {
  return AUDIT_CODES.some(each => each === code)
}
