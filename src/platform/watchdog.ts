/**
 * A timer of the kernel that ends this process at a moment, whatever has become of the process by then: it may have been
 * stopped (SIGSTOP, a frozen container), sleep, or wait for swap. It does not go on after that, not by one instruction.
 * Through koffi, as libc.ts.
 */
import { constants } from 'node:os'
import { bootMs, openLibrary } from './libc.ts'

interface Calls {
  dlsym(library: null, name: string): bigint | number
  signal(signal: number, handler: bigint | number): unknown
  timer_create(clock: number, event: Buffer, timer: Buffer): number
  timer_settime(timer: bigint, flags: number, value: Buffer, old: null): number
  timer_delete(timer: bigint): number
}

/** timer_create(2): CLOCK_BOOTTIME, the clock of `bootMs`. */
const CLOCK_BOOTTIME = 7
/** What may pass between a look at the clock and a timer that goes by it. */
const LATE_MS = 5
/** struct sigevent: value (64 bits), signal, kind, thread (32 bits each), and room. */
const SIGEVENT_SIZE = 64
const SignalTo = { PROCESS: 0, THREAD: 4 } as const
/** struct itimerspec: interval and first time, each seconds and nanoseconds of 64 bits. */
const ITIMERSPEC_SIZE = 32
const FIRST_SECONDS = 16
const FIRST_NANOSECONDS = 24
/** Of a moment that has passed; 0 would be never. */
const MIN_MS = 0.001
const INIT_PID = 1

let calls: Calls | null | undefined

/** Ends this process at the moment that was set last, unless it is cleared before. */
export class Watchdog {
  readonly #timer: bigint | undefined

  /** One that is not set; where there are none it does nothing. */
  constructor() {
    this.#timer = create()
  }

  /** The process ends at `atMs` of `bootMs`; at once if that has passed. */
  set(atMs: number): void {
    // From now on, and not of the clock: libfaketime, by which clocks are tried out, makes other moments of those.
    for (let lateMs = Infinity; lateMs > LATE_MS; ) {
      const beforeMs = bootMs()
      this.#start(Math.max(atMs - beforeMs, MIN_MS))
      lateMs = bootMs() - beforeMs
    }
  }

  clear(): void {
    this.#start(0)
  }

  /** Clears it for good. */
  close(): void {
    if (this.#timer !== undefined) load()?.timer_delete(this.#timer)
  }

  /** 0: not at all. */
  #start(inMs: number): void {
    if (this.#timer === undefined) return
    const value = Buffer.alloc(ITIMERSPEC_SIZE)
    value.writeBigInt64LE(BigInt(Math.floor(inMs / 1000)), FIRST_SECONDS)
    value.writeBigInt64LE(BigInt(Math.floor((inMs % 1000) * 1_000_000)), FIRST_NANOSECONDS)
    load()?.timer_settime(this.#timer, 0, value, null)
  }
}

/** Undefined where the kernel gives none. */
function create(): bigint | undefined {
  const c = load()
  if (c === undefined) return undefined
  const event = Buffer.alloc(SIGEVENT_SIZE)
  const isInit = process.pid === INIT_PID
  // The first process of a container is not killed by itself (pid_namespaces(7)), but by a handler: one that needs nothing of
  // JavaScript, in the thread that writes, which takes it before anything else that it would do.
  if (isInit) c.signal(constants.signals.SIGALRM, c.dlsym(null, '_exit'))
  event.writeInt32LE(isInit ? constants.signals.SIGALRM : constants.signals.SIGKILL, 8)
  event.writeInt32LE(isInit ? SignalTo.THREAD : SignalTo.PROCESS, 12)
  event.writeInt32LE(isInit ? INIT_PID : 0, 16)
  const timer = Buffer.alloc(8)
  return c.timer_create(CLOCK_BOOTTIME, event, timer) === 0 ? timer.readBigInt64LE() : undefined
}

function load(): Calls | undefined {
  if (calls === undefined) {
    calls =
      openLibrary(library => ({
        dlsym: library.func('intptr_t dlsym(void *, const char *)') as Calls['dlsym'],
        signal: library.func('intptr_t signal(int, intptr_t)') as Calls['signal'],
        timer_create: library.func('int timer_create(int, void *, void *)') as Calls['timer_create'],
        timer_settime: library.func('int timer_settime(int64_t, int, void *, void *)') as Calls['timer_settime'],
        timer_delete: library.func('int timer_delete(int64_t)') as Calls['timer_delete'],
      })) ?? null
  }
  return calls ?? undefined
}
