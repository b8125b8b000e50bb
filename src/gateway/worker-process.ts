import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import type { Config } from '../config/config.ts'
import type { Accepted } from '../doors/door.ts'
import type { WorkerCalls, WorkerStart } from './calls.ts'
import { Desk, type Shared } from './desk.ts'
import { Link } from './link.ts'

/** How long a worker may take to come up, and to end. */
const START_MS = 30_000
const STOP_MS = 10_000

/**
 * V8 lets the young generation grow to 48 MiB and more while sessions open, and never gives it back. Opening makes little
 * garbage and relaying next to none, so a twelfth of that does.
 */
const YOUNG_GENERATION = '--max-semi-space-size=4'

/** A connection on its way to a worker. */
export interface Arriving extends Accepted {
  readonly place: string
  readonly conn: number
}

/** How a worker ended. */
export interface WorkerEnd {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** One worker as the main process has it. */
export class WorkerProcess {
  readonly worker: number
  readonly link: Link<WorkerCalls>
  /** Resolves when the process has ended and all that it has sent has arrived. */
  readonly ended: Promise<WorkerEnd>
  readonly #child: ChildProcess
  readonly #desk: Desk
  /** Sockets go one at a time: behind one that is on its way, every other message would wait too. */
  readonly #queue: Arriving[] = []
  #isSending = false
  #isReady = false
  #hasEnded = false

  /** `entry`: the program that runs a worker when its command is `worker`. */
  constructor(entry: string, worker: number, shared: Shared) {
    this.worker = worker
    // A worker prints nothing; what Node itself has to say goes where ours goes.
    this.#child = fork(entry, ['worker'], {
      serialization: 'advanced',
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
      execArgv: [...process.execArgv, YOUNG_GENERATION],
    })
    this.#desk = new Desk(shared, () => this.#pump(false))
    this.link = new Link<WorkerCalls>({ send: (message, handle) => this.#send(message, handle) }, this.#desk)
    this.#child.on('message', this.link.receive)
    // A message that could not be sent: the worker has gone, which is told otherwise too.
    this.#child.on('error', () => {})
    this.ended = this.#end()
  }

  get pid(): number | undefined {
    return this.#child.pid
  }

  get isReady(): boolean {
    return this.#isReady
  }

  /** Connections that it has or is about to get. */
  get load(): number {
    return this.#desk.load
  }

  /** Resolves when it is ready. Rejects if it can not be. */
  async start(start: WorkerStart): Promise<void> {
    await within(this.link.ask('start', start), START_MS, 'a worker does not come up')
    this.#isReady = true
  }

  /** Hands a connection over. */
  give(arriving: Arriving): void {
    this.#desk.count(addressOf(arriving), arriving.place)
    this.#queue.push(arriving)
    this.#pump(this.#isSending)
  }

  /** Loads what a configuration needs. */
  async prepare(config: Config): Promise<void> {
    await within(this.link.ask('prepare', config), START_MS, 'a worker does not answer')
  }

  /** Ends its sessions and itself. */
  async stop(): Promise<void> {
    const timer = setTimeout(() => this.kill(), STOP_MS)
    // Gone already, or not willing: it is killed then.
    await this.link.ask('stop').catch(() => {})
    if (this.#child.connected) this.#child.disconnect()
    await this.ended
    clearTimeout(timer)
  }

  kill(): void {
    this.#child.kill('SIGKILL')
  }

  async #end(): Promise<WorkerEnd> {
    const disconnected = once(this.#child, 'disconnect')
    const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>(resolve => {
      this.#child.once('exit', (...end) => resolve(end))
    })
    if (this.#child.connected) await disconnected
    this.#hasEnded = true
    this.link.close()
    for (const { socket } of this.#queue) socket.destroy()
    this.#desk.close()
    return { code, signal }
  }

  #send(message: Parameters<Link<WorkerCalls>['receive']>[0], handle?: Accepted['socket']): void {
    if (!this.#child.connected) return
    // What can not be sent is lost with the worker; without a callback it would be an 'error' event each time.
    this.#child.send(message as object, handle, { keepOpen: false }, () => {})
  }

  #pump(isSending: boolean): void {
    this.#isSending = isSending
    if (isSending || this.#hasEnded) return
    const next = this.#queue.shift()
    if (next === undefined) return
    const { socket, place, conn, ends, isBalancer } = next
    this.#isSending = true
    this.link.give('arrive', socket, place, conn, { ends, isBalancer })
  }
}

/** What a connection was counted for at the gate. */
export function addressOf({ ends, isBalancer }: Accepted): string | undefined {
  return isBalancer ? undefined : ends?.source.address
}

async function within<T>(promise: Promise<T>, ms: number, message: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(message)), ms)
  })
  try {
    return await Promise.race([promise, late])
  } finally {
    clearTimeout(timer)
  }
}
