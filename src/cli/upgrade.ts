/**
 * SIGUSR2: another process of the program, which may be newer, takes the gateway over with all its sockets. This one stays for the
 * sessions that it has, and ends with them. If the other one does not come up, all stays as it is.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Gateway } from '../gateway/gateway.ts'
import type { Handover } from '../gateway/handover.ts'
import type { Log } from '../observe/log.ts'
import { areDescriptorsKnown } from '../platform/descriptors.ts'
import { inheritanceOf, type PlacedListener } from './inheritance.ts'

/** How long the other process may take until it serves. */
const START_MS = 60_000

/** What else there is to be given up, beside the gateway. */
export interface Belongings {
  readonly file: string
  readonly log: Log
  /** Listeners of the admin's. */
  listeners(): readonly PlacedListener[]
  /** For the other process. */
  readonly environment: Record<string, string>
  /** Another process has it all, whose number is this. */
  taken(pid: number): void
}

export class Upgrade {
  /** Resolves when the gateway was taken over and no session is left here. */
  readonly done: Promise<void>
  readonly #gateway: Gateway
  readonly #belongings: Belongings
  #isUnderWay = false
  #isDone: () => void = () => {}

  constructor(gateway: Gateway, belongings: Belongings) {
    this.#gateway = gateway
    this.#belongings = belongings
    this.done = new Promise(resolve => {
      this.#isDone = resolve
    })
  }

  /** Begins, if none is under way. */
  async begin(): Promise<void> {
    const { log } = this.#belongings
    const why = this.#isUnderWay ? 'there is one already' : whyNot()
    if (why !== undefined) return log.error({ why }, 'upgrade refused')
    this.#isUnderWay = true
    const { child, handover } = this.#start()
    const exited = new Promise<unknown>(resolve => {
      child.once('exit', (code, signal) => resolve({ code, signal }))
      child.once('error', err => resolve({ err }))
    })
    const timer = setTimeout(() => child.kill('SIGKILL'), START_MS)
    const failure = await Promise.race([handover.done, exited])
    clearTimeout(timer)
    if (failure !== undefined) {
      await handover.closed()
      this.#isUnderWay = false
      log.error({ ...failure }, 'upgrade failed: all stays as it was')
      return
    }
    await this.#stay(child, handover)
  }

  #start(): { readonly child: ChildProcess; readonly handover: Handover } {
    const { file, log, environment, taken } = this.#belongings
    let child: ChildProcess | undefined
    const channel = {
      // What can not be sent is lost with the other process, whose end is heard of otherwise.
      send: (message: object) => void (child?.connected === true && child.send(message, undefined, {}, () => {})),
    }
    const handover = this.#gateway.handOver(channel, async () => taken(child?.pid ?? 0))
    const doors = [...this.#gateway.listeners()].map(([place, listener]) => ({ place, ...listener }))
    const listeners = [...doors, ...this.#belongings.listeners()]
    log.info({ sockets: listeners.length }, 'upgrading')
    child = spawn(process.execPath, [...process.execArgv, process.argv[1] ?? '', 'serve', '--config', file], {
      stdio: ['inherit', 'inherit', 'inherit', 'ipc', ...listeners.map(({ fd }) => fd)],
      serialization: 'advanced',
      env: { ...process.env, ...environment, ...inheritanceOf(listeners) },
    })
    child.on('message', handover.receive)
    child.on('error', () => {})
    return { child, handover }
  }

  /** The gateway is the other process's; its end is the end of the sessions that are here. */
  async #stay(child: ChildProcess, handover: Handover): Promise<void> {
    const { log } = this.#belongings
    log.info({ pid: child.pid }, 'handed over')
    let isOver = false
    child.once('disconnect', () => {
      if (isOver) return
      log.error({ pid: child.pid }, 'the process that took over has died')
      void handover.closed()
    })
    await handover.over
    await handover.flush()
    isOver = true
    if (child.connected) child.disconnect()
    child.unref()
    this.#isDone()
  }
}

function whyNot(): string | undefined {
  if (!areDescriptorsKnown()) return 'koffi is missing'
  // Whatever it leaves behind in its namespace ends with it.
  return process.pid === 1 ? 'the first process of a container can not be replaced' : undefined
}
