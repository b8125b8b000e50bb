import { type FSWatcher, statSync, watch } from 'node:fs'
import { dirname } from 'node:path'

/** From the first sign of a change to the look: files are written in several steps, and several files together. */
const DEBOUNCE_MS = 250

/** Watches files, also through links and renames: their folders are watched, and the files looked at when something moves. */
export class FileWatch {
  readonly #changed: () => void
  readonly #failed: (error: Error) => void
  readonly #watchers = new Map<string, FSWatcher>()
  #files: readonly string[] = []
  #seen = ''
  #timer: NodeJS.Timeout | undefined

  /** `changed` is called some moments after a change; `failed` when a folder can not be watched. */
  constructor(changed: () => void, failed: (error: Error) => void) {
    this.#changed = changed
    this.#failed = failed
  }

  /** Watches these files instead of those before. */
  watch(files: readonly string[]): void {
    const folders = new Set(files.map(file => dirname(file)))
    for (const [folder, watcher] of this.#watchers) {
      if (folders.has(folder)) continue
      watcher.close()
      this.#watchers.delete(folder)
    }
    for (const folder of folders) if (!this.#watchers.has(folder)) this.#add(folder)
    if (JSON.stringify(files) === JSON.stringify(this.#files)) return
    this.#files = files
    this.mark()
  }

  /** The files are about to be read: only what changes from now on is a change. */
  mark(): void {
    this.#seen = this.#look()
  }

  close(): void {
    clearTimeout(this.#timer)
    for (const watcher of this.#watchers.values()) watcher.close()
    this.#watchers.clear()
  }

  #add(folder: string): void {
    try {
      const watcher = watch(folder, { persistent: false }, this.#moved)
      watcher.on('error', this.#failed)
      this.#watchers.set(folder, watcher)
    } catch (error) {
      this.#failed(error instanceof Error ? error : new Error(String(error)))
    }
  }

  readonly #moved = (): void => {
    // Not put off by further events: a log in the same folder would do so for ever.
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined
      if (this.#look() !== this.#seen) this.#changed()
    }, DEBOUNCE_MS)
  }

  /** What tells one state of the files from another. */
  #look(): string {
    return JSON.stringify(
      this.#files.map(file => {
        const stats = statSync(file, { throwIfNoEntry: false })
        return stats === undefined ? null : [stats.ino, stats.size, stats.mtimeMs, stats.ctimeMs]
      }),
    )
  }
}
