import type { ReloadResult } from '../admin/managed.ts'
import type { Config } from '../config/config.ts'
import { ConfigError } from '../config/errors.ts'
import { namedFiles } from '../config/named-files.ts'
import { FileWatch } from '../config/watch.ts'
import type { Gateway } from '../gateway/gateway.ts'
import type { Log } from '../observe/log.ts'
import { loadAll } from './load.ts'
import { type Notifier, SERVING } from './notifier.ts'

/** What else a reload has to do with. */
export interface ReloadingOptions {
  /** Who is told of it. */
  readonly notifier?: Notifier
  /** Instead of the whole file. */
  readonly load?: () => Config
}

/** Reloads a gateway's configuration when it is asked to and when one of its files changes, one reload at a time. */
export class Reloading {
  readonly #log: Log
  readonly #notifier: Notifier | undefined
  readonly #load: () => Config
  readonly #watch: FileWatch
  #last: Promise<unknown> = Promise.resolve()
  #next: Promise<ReloadResult> | undefined
  #gateway: Gateway | undefined
  #askedFor: string | undefined
  #isClosed = false

  /** Watches from now on: what changes while the gateway starts is not missed. */
  constructor(config: Config, log: Log, { notifier, load }: ReloadingOptions = {}) {
    this.#log = log
    this.#notifier = notifier
    this.#load = load ?? (() => loadAll(config.file).config)
    this.#watch = new FileWatch(
      () => this.ask('a file has changed'),
      error => log.warn({ err: error }, 'files are not watched; SIGHUP reloads'),
    )
    this.#watch.watch(namedFiles(config))
  }

  /** The gateway has started. */
  begin(gateway: Gateway): void {
    this.#gateway = gateway
    if (this.#askedFor !== undefined) void this.request(this.#askedFor)
  }

  /** Reloads; if a reload is under way, once more after it. Never rejects. */
  request(why: string): Promise<ReloadResult> {
    // One that has not begun yet will see what this one is about.
    this.#next ??= this.#last.then(() => {
      this.#next = undefined
      return this.#run(why)
    })
    this.#last = this.#next
    return this.#next
  }

  /** As request, for those who do not wait; while the gateway is still starting, once it has. */
  ask(why: string): void {
    if (this.#gateway === undefined) this.#askedFor = why
    else void this.request(why)
  }

  close(): void {
    this.#isClosed = true
    this.#watch.close()
  }

  async #run(why: string): Promise<ReloadResult> {
    const gateway = this.#gateway
    if (this.#isClosed) return { kind: 'failed', problems: ['another process has taken the gateway over'] }
    if (gateway === undefined) return { kind: 'failed', problems: ['the gateway is still starting'] }
    this.#log.info({ why }, 'reloading')
    this.#watch.mark()
    this.#notifier?.reloading()
    try {
      const sessionsEnded = await gateway.reload(() => {
        const config = this.#load()
        this.#watch.watch(namedFiles(config))
        return config
      })
      return { kind: 'reloaded', sessionsEnded }
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error)
      const problems = message.split('\n')
      this.#log.error(
        error instanceof ConfigError ? { problems } : { err: error },
        'reload failed: all stays as it was',
      )
      return { kind: 'failed', problems }
    } finally {
      this.#notifier?.ready(SERVING)
    }
  }
}
