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
  #running = false
  #again: string | undefined

  constructor(gateway: Gateway, config: Config, log: Log) {
    this.#gateway = gateway
    this.#log = log
    this.#file = config.file
    this.#watch = new FileWatch(
      () => this.request('a file has changed'),
      error => log.warn({ err: error }, 'files are not watched; SIGHUP reloads'),
    )
    this.#watch.watch(namedFiles(config))
  }

  /** Reloads now, or once more after the reload that is under way. */
  request(why: string): void {
    if (this.#running) {
      this.#again = why
      return
    }
    this.#running = true
    void this.#run(why).finally(() => {
      this.#running = false
      const again = this.#again
      this.#again = undefined
      if (again !== undefined) this.request(again)
    })
  }

  close(): void {
    this.#watch.close()
  }

  async #run(why: string): Promise<void> {
    this.#log.info({ why }, 'reloading')
    this.#watch.mark()
    try {
      const { config } = loadAll(this.#file)
      this.#watch.watch(namedFiles(config))
      await this.#gateway.reload(config)
    } catch (error) {
      const facts = error instanceof ConfigError ? { problems: error.message.split('\n') } : { err: error }
      this.#log.error(facts, 'reload failed: all stays as it was')
    }
  }
}
