/**
 * What is prepared for a connection, an identity or an export: what `prepare` has made, and the server that runs on it. It has
 * a record on disk from before `prepare` is run until after `cleanup` was, so that `cleanup` is run whatever happens; and a lock
 * while anything is done with it, for other gateways may have the same folder (inetd).
 */
import { lstatSync, rmdirSync, rmSync } from 'node:fs'
import type { StandingConfig } from '../config/config.ts'
import { ownerOf } from '../platform/owner.ts'
import { printable } from '../protocol/strings.ts'
import { PreparingError } from './errors.ts'
import type { Ground, Prepared } from './ground.ts'
import { endServerOf, isTaken } from './leftover.ts'
import { environment, fill, type Values } from './placeholders.ts'
import type { PreparationRecord } from './records.ts'
import { type Program, runProgram } from './run-program.ts'
import { Served } from './served.ts'
import { Written } from './written.ts'

export interface PreparationOptions {
  readonly ground: Ground
  readonly id: string
  readonly who: string
  readonly values: Values
  /** Undefined: not known any more. */
  readonly of: Prepared | undefined
  /** What an earlier gateway has left. */
  readonly record?: PreparationRecord
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
  isStale: boolean
  readonly #ground: Ground
  readonly #who: string
  readonly #ended: () => void
  readonly #served: Served
  readonly #written: Written
  #values: Values
  #of: Prepared | undefined
  #making: Promise<StandingConfig> | undefined
  #ending: Promise<void> | undefined
  #linger: NodeJS.Timeout | undefined

  constructor({ ground, id, of, who, values, backoffName, ended, record }: PreparationOptions) {
    this.id = id
    this.#ground = ground
    this.#who = who
    this.#values = values
    this.#of = of
    this.#ended = ended
    this.isStale = of === undefined
    this.#written = new Written(ground, id, { record, facts: () => this.#facts })
    this.#served = new Served({
      ground,
      backoffName,
      facts: () => this.#facts,
      isShared: () => this.users.size > 1,
      changed: pid => this.#written.change({ server: pid === undefined ? undefined : ownerOf(pid) }),
    })
  }

  /** One that an earlier gateway has left. */
  static found(ground: Ground, record: PreparationRecord, ended: () => void): Preparation {
    const { id, who } = record
    const values = { export: '', identity: '' }
    return new Preparation({ ground, id, who, values, of: undefined, backoffName: id, ended, record })
  }

  /** Set while it is taken apart, or looked at whether it has to be: resolves when that is over. */
  get ending(): Promise<void> | undefined {
    return this.#ending
  }

  get record(): PreparationRecord | undefined {
    return this.#written.record
  }

  get serverPid(): number | undefined {
    return this.#served.pid
  }

  /** Of the export. */
  get name(): string {
    return this.#of?.name ?? this.record?.export ?? ''
  }

  /** Whether its configuration is this one, as far as it matters here. */
  is(of: Prepared | undefined): boolean {
    return textOf(of) === textOf(this.#of)
  }

  /** Takes another configuration, while nobody uses it. */
  adopt(of: Prepared, values: Values): void {
    this.#of = of
    this.#values = values
    this.isStale = false
  }

  /** Makes it ready, as far as it is not; `isAgain`: what was there did not work. @throws PreparingError */
  async ready(isAgain: boolean): Promise<StandingConfig> {
    clearTimeout(this.#linger)
    if (isAgain) this.#served.doubt()
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

  /** Takes it apart: the server, then what was prepared; false if another gateway has it. Never rejects. */
  async end(): Promise<boolean> {
    if (this.#ending === undefined && !this.#written.isClaimed()) return false
    this.#ending ??= this.#end()
    await this.#ending
    return true
  }

  /** What a crash has left of it is ended: its server, and all of it unless it survives. Never rejects. */
  async settle(): Promise<void> {
    this.#ending = this.#settle()
    await this.#ending
  }

  /** Ends its server; what was prepared stays. */
  async rest(): Promise<void> {
    clearTimeout(this.#linger)
    await this.#making?.catch(() => {})
    await this.#served.stop()
    if (this.users.size === 0 && this.#making === undefined && this.#ending === undefined) this.#written.release()
  }

  /** Whether it ages; false if another gateway has it. @throws the error of node:fs */
  keep(isKept: boolean): boolean {
    const wasOurs = this.#written.isLocked
    if (!this.#written.isClaimed()) return false
    if (this.record !== undefined) this.#written.write({ ...this.record, isKept })
    if (!wasOurs) this.#written.release()
    return true
  }

  async #make(): Promise<StandingConfig> {
    const { upstream } = this.#current
    this.#written.claim()
    await this.#inherit()
    await this.#prepare()
    switch (upstream.kind) {
      case 'spawn': {
        const socket = this.#values.socket ?? ''
        await this.#served.ensure({ config: upstream, program: this.#program(upstream.argv), socket })
        return { kind: 'unix', path: socket, export: upstream.export, tls: false }
      }
      case 'overlay':
        return { kind: 'file', path: this.#values.overlay ?? '' }
      default:
        return upstream
    }
  }

  /** What another gateway, which is gone, has left under this name is ours, or cleaned up. */
  async #inherit(): Promise<void> {
    const record = this.record
    if (record === undefined || isOne(record, this.#ground)) return
    await endServerOf(record)
    if (survives(record)) this.#written.change({ gateway: this.#ground.gateway, server: undefined })
    else await this.#cleanUp(record)
  }

  async #prepare(): Promise<void> {
    if (this.record?.phase === 'ready') return
    const { name, hooks } = this.#current
    const { prepare, timeoutMs } = hooks
    if (prepare === undefined) this.#written.note(this.#begun())
    else {
      await this.#ground.turns.run(name, async () => {
        if (this.users.size === 0) throw new PreparingError('UNWANTED', 'nobody waits for it any more')
        this.#written.note(this.#begun())
        await this.#run('prepare', this.#program(prepare), timeoutMs)
      })
    }
    if (this.record !== undefined) this.#written.note({ ...this.record, phase: 'ready' })
  }

  #begun(): PreparationRecord {
    const { name, hooks } = this.#current
    const now = Date.now()
    const cleanup = hooks.cleanup && { ...this.#program(hooks.cleanup), timeoutMs: hooks.timeoutMs }
    return {
      version: 1,
      id: this.id,
      export: name,
      who: this.#who,
      per: hooks.per,
      phase: 'preparing',
      isKept: false,
      createdMs: now,
      usedMs: now,
      cleanup: cleanup && { ...cleanup, argv: [...cleanup.argv], env: definedOf(cleanup.env) },
      overlay: this.#values.overlay ?? '',
      socket: this.#values.socket ?? '',
      gateway: this.#ground.gateway,
    }
  }

  /** @throws PreparingError PREPARE */
  async #run(hook: 'prepare' | 'cleanup', program: Program, timeoutMs: number): Promise<void> {
    const { log, guard, draining } = this.#ground
    const facts = { ...this.#facts, hook }
    const begin = performance.now()
    const say = (line: string, left: number): void => {
      log.info({ ...facts, line, ...(left > 0 && { left }) }, 'program says')
    }
    const signal = hook === 'prepare' ? draining : NEVER
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

  /** The last one has left. */
  async #idle(): Promise<void> {
    clearTimeout(this.#linger)
    await this.#making?.catch(() => {})
    if (this.users.size > 0 || this.#ending !== undefined) return
    if (this.#written.isLocked) this.#written.change({ usedMs: Date.now() })
    const { upstream, hooks } = this.#of ?? {}
    const per = this.record?.per ?? hooks?.per
    const lingerMs = upstream?.kind === 'spawn' && this.#served.pid !== undefined ? upstream.lingerMs : 0
    if (per === 'connection' || this.isStale || lingerMs === 0) {
      await this.#letGo(per !== 'identity')
      return
    }
    this.#served.doubt()
    this.#linger = setTimeout(() => void this.#letGo(per !== 'identity'), lingerMs)
    this.#linger.unref()
  }

  async #letGo(isOver: boolean): Promise<void> {
    if (this.users.size > 0) return
    if (isOver) await this.end()
    else await this.rest()
  }

  async #end(): Promise<void> {
    await this.rest()
    const record = this.record
    if (record !== undefined) await this.#cleanUp(record)
    this.#written.release()
    this.#ended()
  }

  async #settle(): Promise<void> {
    const record = this.#written.isClaimed() ? this.record : undefined
    if (record !== undefined && !isTaken(record)) {
      await endServerOf(record).catch((err: unknown) =>
        this.#ground.log.error({ ...this.#facts, err }, 'overlay stays'),
      )
      if (survives(record)) this.#written.change({ server: undefined })
      else await this.#cleanUp(record)
    }
    this.#written.release()
    this.#ending = undefined
    if (this.record === undefined || !survives(this.record)) this.#ended()
  }

  /** Never rejects. */
  async #cleanUp(record: PreparationRecord): Promise<void> {
    const { cleanup, overlay } = record
    this.#written.change({ phase: 'cleaning', gateway: this.#ground.gateway })
    // It says in the log what has gone wrong, and is not tried again.
    if (cleanup !== undefined) await this.#run('cleanup', cleanup, cleanup.timeoutMs).catch(() => {})
    try {
      removeOverlay(overlay)
    } catch (err) {
      this.#ground.log.error({ ...this.#facts, overlay, err }, 'overlay stays')
    }
    this.#forget()
  }

  #forget(): void {
    try {
      this.#written.remove()
    } catch (err) {
      this.#ground.log.error({ ...this.#facts, err }, 'state can not be written')
    }
  }

  get #current(): Prepared {
    if (this.#of === undefined) throw new TypeError('a preparation without its configuration')
    return this.#of
  }

  get #facts(): Readonly<Record<string, unknown>> {
    return { export: printable(this.name), id: this.id, who: this.#who }
  }

  #program([name = '', ...args]: readonly string[]): Program {
    const values = this.#values
    return { argv: [name, ...fill(args, values)], env: environment(values), folder: this.#current.hooks.folder }
  }
}

const NEVER = new AbortController().signal

function isOne({ gateway }: PreparationRecord, ground: Ground): boolean {
  return gateway.pid === ground.gateway.pid && gateway.started === ground.gateway.started
}

/** Whether it outlives the gateway that has made it. */
function survives({ per, phase }: PreparationRecord): boolean {
  return per === 'identity' && phase === 'ready'
}

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
