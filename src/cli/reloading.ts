import type { ReloadResult } from '../admin/managed.ts'
import type { Config } from '../config/config.ts'
import { ConfigError } from '../config/errors.ts'
import { namedFiles } from '../config/named-files.ts'
import { FileWatch } from '../config/watch.ts'
import type { Gateway } from '../gateway/gateway.ts'
import type { Log } from '../observe/log.ts'
import { loadAll } from './load.ts'

/** Reloads a gateway's configuration when it is asked to and when one of its files changes, one reload at a time. */
export class Reloading {
  readonly #gateway: Gateway
  readonly #log: Log
  readonly #file: string
  readonly #watch: FileWatch
  #last: Promise<unknown> = Promise.resolve()
  #next: Promise<ReloadResult> | undefined

  constructor(gateway: Gateway, config: Config, log: Log) {
    this.#gateway = gateway
    this.#log = log
    this.#file = config.file
    this.#watch = new FileWatch(
      () => void this.request('a file has changed'),
      error => log.warn({ err: error }, 'files are not watched; SIGHUP reloads'),
    )
    this.#watch.watch(namedFiles(config))
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

  close(): void {
    this.#watch.close()
  }

  async #run(why: string): Promise<ReloadResult> {
    this.#log.info({ why }, 'reloading')
    this.#watch.mark()
    try {
      const sessionsEnded = await this.#gateway.reload(() => {
        const { config } = loadAll(this.#file)
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
    }
  }
}
