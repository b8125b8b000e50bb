/**
 * What is prepared for a connection, an identity or an export: what `prepare` has made, and the server that runs on it. It has
 * a record on disk from before `prepare` is run until after `cleanup` was, so that `cleanup` is run whatever happens.
 */
import { lstatSync, rmdirSync, rmSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import type { SpawnConfig, StandingConfig } from '../config/config.ts'
import { ownerOf } from '../platform/owner.ts'
import { printable } from '../protocol/strings.ts'
import { PreparingError } from './errors.ts'
import type { Ground, Prepared } from './ground.ts'
import { answers } from './listening.ts'
import { environment, fill, type Values } from './placeholders.ts'
import type { PreparationRecord } from './records.ts'
import { type Program, runProgram } from './run-program.ts'
import { type SpawnedServer, startServer } from './spawned-server.ts'

/** A server that ran for less was no use. */
const GROWN_UP_MS = 10_000

export interface PreparationOptions {
  readonly ground: Ground
  readonly id: string
  readonly who: string
  readonly values: Values
  /** Undefined: not known any more. */
  readonly of: Prepared | undefined
  /** What it is left alone by when its server fails. */
  readonly backoffName: string
  /** It is gone. */
  ended(): void
}

export class Preparation {
  readonly id: string
  /** Connections that it is for. */
  readonly users = new Set<number>()
  /** Who they are, as long as there are any. */
  holder: string | undefined
  /** Its configuration has changed, or is gone. */
  isStale = false
  readonly #ground: Ground
  readonly #options: Omit<PreparationOptions, 'ground' | 'id' | 'of'>
  #of: Prepared | undefined
  #record: PreparationRecord | undefined
  #making: Promise<StandingConfig> | undefined
  #ending: Promise<void> | undefined
  #server: SpawnedServer | undefined
  #isDoubtful = false
  #linger: NodeJS.Timeout | undefined
  /** What has to be over before anything is done here. */
  #before: Promise<void> | undefined

  constructor({ ground, id, of, ...options }: PreparationOptions) {
    this.#ground = ground
    this.id = id
    this.#of = of
    this.#options = options
  }

  /** One that an earlier gateway has left. */
  static found(ground: Ground, record: PreparationRecord, ended: () => void): Preparation {
    const { id, who } = record
    const values = { export: '', identity: '' }
    const preparation = new Preparation({ ground, id, who, values, of: undefined, backoffName: id, ended })
    preparation.#record = { ...record, gateway: ground.gateway, server: undefined }
    preparation.isStale = true
    return preparation
  }

  /** Set while it is taken apart: resolves when nothing of it is left. */
  get ending(): Promise<void> | undefined {
    return this.#ending
  }

  get record(): PreparationRecord | undefined {
    return this.#record
  }

  get serverPid(): number | undefined {
    return this.#server?.pid
  }

  /** Of the export. */
  get name(): string {
    return this.#of?.name ?? this.#record?.export ?? ''
  }

  /** Whether its configuration is this one, as far as it matters here. */
  is(of: Prepared | undefined): boolean {
    return textOf(of) === textOf(this.#of)
  }

  /** Nothing is done here before this is over. */
  after(before: Promise<void>): void {
    this.#before = before
  }

  /** Takes another configuration, while nobody uses it. */
  adopt(of: Prepared, values: Values): void {
    this.#of = of
    this.isStale = false
    Object.assign(this.#options, { values })
  }

  /** Makes it ready, as far as it is not; `isAgain`: what was there did not work. @throws PreparingError */
  async ready(isAgain: boolean): Promise<StandingConfig> {
    clearTimeout(this.#linger)
    if (isAgain) this.#isDoubtful = true
    this.#making ??= this.#make().finally(() => {
      this.#making = undefined
    })
    return await this.#making
  }

  /** A connection does not need it any more. */
  leave(conn: number): void {
    if (!this.users.delete(conn) || this.users.size > 0) return
    this.holder = undefined
    void this.#idle()
  }

  /** Its configuration has changed: it ends with its last user. */
  outdate(): void {
    this.isStale = true
    if (this.users.size === 0) void this.#idle()
  }

  /** Takes it apart: the server, then what was prepared. Resolves when nothing of it is left. Never rejects. */
  async end(): Promise<void> {
    this.#ending ??= this.#end()
    await this.#ending
  }

  /** Ends its server; what was prepared stays. */
  async rest(): Promise<void> {
    clearTimeout(this.#linger)
    await this.#before
    await this.#making?.catch(() => {})
    await this.#stopServer()
  }

  /** Whether it ages. @throws the error of node:fs */
  keep(isKept: boolean): void {
    if (this.#record !== undefined) this.#write({ ...this.#record, isKept })
  }

  async #make(): Promise<StandingConfig> {
    const { upstream } = this.#current
    await this.#prepare()
    switch (upstream.kind) {
      case 'spawn':
        await this.#serve(upstream)
        return { kind: 'unix', path: this.#values.socket ?? '', export: upstream.export, tls: false }
      case 'overlay':
        return { kind: 'file', path: this.#values.overlay ?? '' }
      default:
        return upstream
    }
  }

  async #prepare(): Promise<void> {
    if (this.#record?.phase === 'ready') return
    const { name, hooks } = this.#current
    const now = Date.now()
    const cleanup = hooks.cleanup && { ...this.#program(hooks.cleanup), timeoutMs: hooks.timeoutMs }
    this.#note({
      version: 1,
      id: this.id,
      export: name,
      who: this.#options.who,
      per: hooks.per,
      phase: 'preparing',
      isKept: false,
      createdMs: now,
      usedMs: now,
      cleanup: cleanup && { ...cleanup, argv: [...cleanup.argv], env: definedOf(cleanup.env) },
      overlay: this.#values.overlay ?? '',
      socket: this.#values.socket ?? '',
      gateway: this.#ground.gateway,
    })
    if (hooks.prepare !== undefined) {
      await this.#ground.turns.run(name, async () => {
        if (this.users.size === 0) throw new PreparingError('PREPARE', 'nobody waits for it any more')
        await this.#run('prepare', this.#program(hooks.prepare ?? []), hooks.timeoutMs)
      })
    }
    if (this.#record !== undefined) this.#note({ ...this.#record, phase: 'ready' })
  }

  /** @throws PreparingError PREPARE */
  async #run(hook: 'prepare' | 'cleanup', program: Program, timeoutMs: number): Promise<void> {
    const { log, guard, closing } = this.#ground
    const facts = { ...this.#facts, hook }
    const begin = performance.now()
    const say = (line: string, left: number): void => {
      log.info({ ...facts, line, ...(left > 0 && { left }) }, 'program says')
    }
    const signal = hook === 'prepare' ? closing : NEVER
    const end = await runProgram(program, { timeoutMs, guard, signal, say })
    const ms = Math.round(performance.now() - begin)
    if (end.kind === 'done') {
      log.info({ ...facts, ms }, 'hook done')
      return
    }
    const { why, last } = end
    log.error({ ...facts, program: program.argv[0], why, ms, ...(last !== '' && { last }) }, 'hook failed')
    throw new PreparingError('PREPARE', `${hook} has failed: ${why}`)
  }

  async #serve(config: SpawnConfig): Promise<void> {
    const { log, guard, closing, backoff } = this.#ground
    const { backoffName } = this.#options
    if (this.#server !== undefined && !(await this.#isDead(this.#server))) return
    const pauseMs = backoff.pauseMs(backoffName)
    if (pauseMs > config.startMs) throw new PreparingError('SPAWN', 'the server has failed too often just now')
    if (pauseMs > 0) await delay(pauseMs, undefined, { signal: closing }).catch(() => {})
    if (closing.aborted) throw new PreparingError('SPAWN', 'the gateway has stopped')
    const facts = { ...this.#facts, program: config.argv[0] }
    const options = {
      program: this.#program(config.argv),
      socket: this.#values.socket ?? '',
      activation: config.activation,
      startMs: config.startMs,
      guard,
      signal: closing,
      say: (line: string, left: number) => log.info({ ...facts, line, ...(left > 0 && { left }) }, 'program says'),
    }
    try {
      const server = await startServer(options)
      this.#took(server, facts)
    } catch (error) {
      backoff.failed(backoffName)
      log.error({ ...facts, err: error }, 'server does not start')
      throw error
    }
  }

  #took(server: SpawnedServer, facts: Readonly<Record<string, unknown>>): void {
    const { log, backoff } = this.#ground
    const { backoffName } = this.#options
    this.#server = server
    this.#isDoubtful = false
    log.info({ ...facts, pid: server.pid }, 'server started')
    if (this.#record !== undefined) this.#noteIfPossible({ ...this.#record, server: ownerOf(server.pid) })
    void server.ended.then(({ why, isFine, last, ms }) => {
      const isExpected = this.#server !== server
      if (!isExpected) this.#server = undefined
      const isFailure = !isExpected && !isFine
      if (isFailure && ms < GROWN_UP_MS) backoff.failed(backoffName)
      else backoff.worked(backoffName)
      const told = { ...facts, pid: server.pid, why, ms, ...(last !== '' && isFailure && { last }) }
      log[isFailure ? 'error' : 'info'](told, 'server ended')
      if (isExpected || this.#record === undefined) return
      this.#noteIfPossible({ ...this.#record, server: undefined })
    })
  }

  /** Looks at a server that nobody has used for a while, or that has failed somebody; ends it if it does not answer. */
  async #isDead(server: SpawnedServer): Promise<boolean> {
    if (!this.#isDoubtful) return false
    this.#isDoubtful = false
    if (this.#server === server && (await answers(this.#values.socket ?? ''))) return this.#server !== server
    // It may be of use to others who are on it.
    if (this.#server === server && this.users.size > 1) return false
    if (this.#server === server) this.#ground.log.warn({ ...this.#facts, pid: server.pid }, 'server does not answer')
    await this.#stopServer()
    return true
  }

  async #stopServer(): Promise<void> {
    const server = this.#server
    if (server === undefined) return
    this.#server = undefined
    await server.stop()
    if (this.#record !== undefined) this.#noteIfPossible({ ...this.#record, server: undefined })
  }

  /** The last one has left. */
  async #idle(): Promise<void> {
    clearTimeout(this.#linger)
    await this.#making?.catch(() => {})
    if (this.users.size > 0 || this.#ending !== undefined) return
    if (this.#record !== undefined) this.#noteIfPossible({ ...this.#record, usedMs: Date.now() })
    const { upstream, hooks } = this.#of ?? {}
    const per = this.#record?.per ?? hooks?.per
    const lingerMs = upstream?.kind === 'spawn' && this.#server !== undefined ? upstream.lingerMs : 0
    if (per === 'connection' || this.isStale || lingerMs === 0) {
      await this.#letGo(per !== 'identity')
      return
    }
    this.#isDoubtful = true
    this.#linger = setTimeout(() => void this.#letGo(per !== 'identity'), lingerMs)
    this.#linger.unref()
  }

  async #letGo(isOver: boolean): Promise<void> {
    if (this.users.size > 0) return
    if (isOver) await this.end()
    else await this.#stopServer()
  }

  async #end(): Promise<void> {
    await this.rest()
    const record = this.#record
    if (record !== undefined) await this.#cleanUp(record)
    this.#options.ended()
  }

  async #cleanUp(record: PreparationRecord): Promise<void> {
    const { cleanup, overlay } = record
    this.#noteIfPossible({ ...record, phase: 'cleaning' })
    // It says in the log what has gone wrong, and is not tried again.
    if (cleanup !== undefined) await this.#run('cleanup', cleanup, cleanup.timeoutMs).catch(() => {})
    try {
      removeOverlay(overlay)
    } catch (err) {
      this.#ground.log.error({ ...this.#facts, overlay, err }, 'overlay stays')
    }
    this.#ground.records.remove(record.id)
    this.#record = undefined
  }

  get #current(): Prepared {
    if (this.#of === undefined) throw new TypeError('a preparation without its configuration')
    return this.#of
  }

  get #values(): Values {
    return this.#options.values
  }

  get #facts(): Readonly<Record<string, unknown>> {
    return { export: printable(this.name), id: this.id, who: this.#options.who }
  }

  #program(argv: readonly string[]): Program {
    const [name = '', ...args] = argv
    return {
      argv: [name, ...fill(args, this.#values)],
      env: environment(this.#values),
      folder: this.#current.hooks.folder,
    }
  }

  /** @throws PreparingError STATE */
  #note(record: PreparationRecord): void {
    try {
      this.#write(record)
    } catch (cause) {
      const text = cause instanceof Error ? cause.message : String(cause)
      this.#ground.log.error({ ...this.#facts, err: cause }, 'state can not be written')
      throw new PreparingError('STATE', text, { cause })
    }
  }

  /** What is written here can be found out otherwise after a crash, if need be. */
  #noteIfPossible(record: PreparationRecord): void {
    try {
      this.#write(record)
    } catch (err) {
      this.#record = record
      this.#ground.log.warn({ ...this.#facts, err }, 'state can not be written')
    }
  }

  #write(record: PreparationRecord): void {
    const durable = record.phase !== this.#record?.phase || record.isKept !== this.#record.isKept
    this.#ground.records.write(record, { durable })
    this.#record = record
  }
}

const NEVER = new AbortController().signal

function textOf(of: Prepared | undefined): string {
  return of === undefined ? '' : JSON.stringify([of.upstream, { ...of.hooks, authorize: undefined }])
}

function definedOf(env: NodeJS.ProcessEnv): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [[name, value]])),
  )
}

/** A file, or a link to where it really is; never what is in a folder, which may be anything by now. */
function removeOverlay(path: string): void {
  const stats = lstatSync(path, { throwIfNoEntry: false })
  if (stats?.isDirectory() === true) rmdirSync(path)
  else rmSync(path, { force: true })
}
