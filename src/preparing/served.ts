/** The place of a server: it is there or not, is started when it is needed, looked at when in doubt, and started again. */
import { setTimeout as delay } from 'node:timers/promises'
import type { SpawnConfig } from '../config/config.ts'
import { PreparingError } from './errors.ts'
import type { Ground } from './ground.ts'
import { answers } from './listening.ts'
import type { Program } from './run-program.ts'
import { type SpawnedServer, startServer } from './spawned-server.ts'

/** A server that ran for less was no use. */
const GROWN_UP_MS = 10_000

/** How long the news of its end may take. */
const DEATH_MS = 200

export interface ServedOptions {
  readonly ground: Ground
  /** What it is left alone by when it fails. */
  readonly backoffName: string
  /** For the log. */
  facts(): Readonly<Record<string, unknown>>
  /** Whether it may be of use to somebody else than who asks. */
  isShared(): boolean
  /** There is another server now, or none. */
  changed(pid: number | undefined): void
}

/** What is started. */
export interface Serving {
  readonly config: SpawnConfig
  readonly program: Program
  readonly socket: string
}

export class Served {
  readonly #options: ServedOptions
  #server: SpawnedServer | undefined
  #stopping: Promise<void> | undefined
  #isDoubtful = false

  constructor(options: ServedOptions) {
    this.#options = options
  }

  get pid(): number | undefined {
    return this.#server?.pid
  }

  /** Whoever asks next wants to know whether it still answers. */
  doubt(): void {
    this.#isDoubtful = true
  }

  /** A server that listens. @throws PreparingError SPAWN */
  async ensure(serving: Serving): Promise<void> {
    const { ground, backoffName } = this.#options
    const { startMs } = serving.config
    await this.#stopping
    if (this.#server !== undefined && (await this.#isGood(this.#server, serving.socket))) return
    const pauseMs = ground.backoff.pauseMs(backoffName)
    if (pauseMs > startMs) throw new PreparingError('SPAWN', 'the server has failed too often just now')
    if (pauseMs > 0) await delay(pauseMs, undefined, { signal: ground.closing }).catch(() => {})
    if (ground.closing.aborted) throw new PreparingError('SPAWN', 'the gateway has stopped')
    await this.#start(serving)
  }

  /** Ends it. Never rejects. */
  async stop(): Promise<void> {
    const server = this.#server
    this.#server = undefined
    if (server !== undefined) {
      this.#stopping = server.stop().then(() => {
        this.#stopping = undefined
        this.#options.changed(undefined)
      })
    }
    await this.#stopping
  }

  async #start({ config, program, socket }: Serving): Promise<void> {
    const { ground, backoffName } = this.#options
    const { log, guard, closing, backoff } = ground
    const facts = { ...this.#options.facts(), program: program.argv[0] }
    const { activation, startMs } = config
    const say = (line: string, left: number): void => {
      log.info({ ...facts, line, ...(left > 0 && { left }) }, 'program says')
    }
    try {
      const server = await startServer({ program, socket, activation, startMs, guard, signal: closing, say })
      this.#took(server, facts)
    } catch (error) {
      backoff.failed(backoffName)
      log.error({ ...facts, err: error }, 'server does not start')
      if (error instanceof PreparingError) throw error
      throw new PreparingError('SPAWN', 'the server can not be started', { cause: error })
    }
  }

  #took(server: SpawnedServer, facts: Readonly<Record<string, unknown>>): void {
    const { ground, backoffName } = this.#options
    const { log, backoff } = ground
    this.#server = server
    this.#isDoubtful = false
    log.info({ ...facts, pid: server.pid }, 'server started')
    this.#options.changed(server.pid)
    void server.ended.then(({ why, isFine, last, ms }) => {
      const isExpected = this.#server !== server
      const isFailure = !isExpected && !isFine
      if (isFailure && ms < GROWN_UP_MS) backoff.failed(backoffName)
      else backoff.worked(backoffName)
      const told = { ...facts, pid: server.pid, why, ms, ...(last !== '' && isFailure && { last }) }
      log[isFailure ? 'error' : 'info'](told, 'server ended')
      if (isExpected) return
      this.#server = undefined
      this.#options.changed(undefined)
    })
  }

  /** Looks at one that nobody has used for a while, or that has failed somebody; ends it if it does not answer. */
  async #isGood(server: SpawnedServer, socket: string): Promise<boolean> {
    if (server.hasExited) {
      await server.ended
      return false
    }
    if (!this.#isDoubtful) return true
    this.#isDoubtful = false
    const isAnswering = await answers(socket)
    // Its client may know of its death before we do.
    if (!isAnswering) await Promise.race([server.ended, delay(DEATH_MS)])
    if (server.hasExited) {
      await server.ended
      return false
    }
    // It may be of use to others who are on it.
    if (isAnswering || this.#options.isShared()) return true
    this.#options.ground.log.warn({ ...this.#options.facts(), pid: server.pid }, 'server does not answer')
    await this.stop()
    return false
  }
}
