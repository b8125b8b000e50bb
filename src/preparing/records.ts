/** What has been prepared, on disk, so that it is cleaned up whatever happens to this process: one file for each. */
import {
  closeSync,
  fsyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import * as z from 'zod'

const owner = z.object({ pid: z.int(), started: z.string(), boot: z.string(), namespace: z.string() })

const recordSchema = z.object({
  version: z.literal(1),
  id: z.string().regex(/^[A-Za-z0-9][\w.-]*$/),
  export: z.string(),
  who: z.string(),
  per: z.enum(['connection', 'identity', 'export']),
  /** preparing: `prepare` may have begun. ready: it is done. cleaning: `cleanup` may have begun. */
  phase: z.enum(['preparing', 'ready', 'cleaning']),
  /** It does not age. */
  isKept: z.boolean(),
  createdMs: z.number(),
  usedMs: z.number(),
  cleanup: z
    .object({
      argv: z.array(z.string()).min(1),
      env: z.record(z.string(), z.string()),
      folder: z.string(),
      timeoutMs: z.number(),
    })
    .optional(),
  overlay: z.string(),
  socket: z.string(),
  /** The server that runs for it. */
  server: owner.optional(),
  /** The gateway that has it. */
  gateway: owner,
})

export type PreparationRecord = Readonly<z.output<typeof recordSchema>>

const EXTENSION = '.json'

export class Records {
  readonly #folder: string

  /** Makes the folder. @throws the error of node:fs */
  constructor(folder: string) {
    this.#folder = folder
    mkdirSync(folder, { recursive: true, mode: 0o700 })
  }

  /** Writes one down; `durable`: it is on the disk then. @throws the error of node:fs; the one before is still there */
  write(record: PreparationRecord, { durable }: { readonly durable: boolean }): void {
    const path = this.#pathOf(record.id)
    const fresh = `${path}.new`
    try {
      const fd = openSync(fresh, 'w', 0o600)
      try {
        writeFileSync(fd, JSON.stringify(record))
        if (durable) fsyncSync(fd)
      } finally {
        closeSync(fd)
      }
      renameSync(fresh, path)
      if (durable) this.#sync()
    } catch (error) {
      rmSync(fresh, { force: true })
      throw error
    }
  }

  /** One; undefined if there is none, or none that can be read. */
  read(id: string): PreparationRecord | undefined {
    return read(this.#pathOf(id))
  }

  remove(id: string): void {
    rmSync(this.#pathOf(id), { force: true })
  }

  /** All that are there; `bad` is told of files that are none. */
  all(bad: (file: string) => void): readonly PreparationRecord[] {
    return readdirSync(this.#folder).flatMap(name => {
      if (!name.endsWith(EXTENSION)) return []
      const record = read(join(this.#folder, name))
      if (record === undefined || `${record.id}${EXTENSION}` !== name) {
        bad(join(this.#folder, name))
        return []
      }
      return [record]
    })
  }

  #pathOf(id: string): string {
    return join(this.#folder, `${id}${EXTENSION}`)
  }

  #sync(): void {
    const fd = openSync(this.#folder, 'r')
    try {
      fsyncSync(fd)
    } finally {
      closeSync(fd)
    }
  }
}

function read(path: string): PreparationRecord | undefined {
  try {
    return recordSchema.safeParse(JSON.parse(readFileSync(path, 'utf8'))).data
  } catch {
    return undefined
  }
}
