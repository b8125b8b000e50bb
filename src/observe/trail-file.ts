/**
 * The file that a trail is written to: where it goes on after a start, what becomes of a record that was cut short, when a
 * new file begins. Whole batches go in or nothing: what a failed write has left is cut off again.
 *
 * A file that somebody has moved away (`mv`, logrotate) is followed by a new one with the same chain. One that has grown
 * or shrunk by another hand is not touched any more. Not here: who may write (trail-lock.ts), and who waits (audit.ts).
 */
import { existsSync, type Stats } from 'node:fs'
import { type FileHandle, mkdir, open, readdir, rename, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { AuditError } from './errors.ts'
import { readFirstSeq, readTrailEnd, type TrailEnd } from './trail-end.ts'
import { type AuditFacts, type AuditKind, encodeRecord, GENESIS, type Head, sha256 } from './trail-record.ts'

/** A record before it has its place in the chain. */
export interface Draft {
  readonly time: string
  readonly kind: AuditKind
  readonly facts: AuditFacts
}

/** Of a torn record so much is kept in the record that tells of it. */
const MAX_TORN_BYTES = 3000

const ROTATED = /^audit-\d{12,15}(\.\d+)?\.jsonl$/

export class TrailFile {
  readonly path: string
  readonly #rotateBytes: number
  #file: FileHandle
  #head: Head
  #firstSeq: number
  #sizeBytes: number
  /** Records that have to come before whatever is written next. */
  #preface: readonly Omit<Draft, 'time'>[]
  #lacksNewline: boolean
  /** Which file it is: the one that its name leads to may have become another one. */
  #place: { readonly ino: number; readonly dev: number }
  #isSynced = true
  /** A write has begun and has not come to its end. */
  #isDirty = false

  private constructor(path: string, rotateBytes: number, file: FileHandle, at: Place) {
    this.path = path
    this.#rotateBytes = rotateBytes
    this.#file = file
    this.#place = at.stats
    this.#head = at.head
    this.#firstSeq = at.firstSeq
    this.#sizeBytes = at.end.sizeBytes
    this.#lacksNewline = at.end.lacksNewline
    this.#preface = at.preface
  }

  /** Opens a trail or begins one. @throws AuditError CORRUPT, or the error of node:fs */
  static async open(path: string, rotateBytes: number): Promise<TrailFile> {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    const file = await openFile(path)
    try {
      return new TrailFile(path, rotateBytes, file, await findPlace(file, path))
    } catch (error) {
      await file.close()
      throw error
    }
  }

  /**
   * Writes records behind the others; the number of the first one. All of them, or none. `durable`: they, and all before
   * them, are on the disk then; others follow when the system likes, like every log.
   */
  async append(drafts: readonly Draft[], durable: boolean): Promise<number> {
    const stats = await stat(this.path).catch(absent)
    if (stats === undefined) await this.#continueIn(undefined)
    else if (stats.ino !== this.#place.ino || stats.dev !== this.#place.dev) throw this.#changed('is another file now')
    else if (stats.size !== this.#sizeBytes) throw this.#changed('was written to by somebody else')
    else if (this.#sizeBytes > 0 && this.#sizeBytes >= this.#rotateBytes) await this.#rotate()
    return await this.#write(drafts, durable)
  }

  /** Cuts off what a failed write has left; false if that can not be done, and the file has to be opened anew. */
  async rollBack(): Promise<boolean> {
    if (!this.#isDirty) return true
    try {
      await this.#file.truncate(this.#sizeBytes)
      this.#isDirty = false
      return true
    } catch {
      return false
    }
  }

  async close(): Promise<void> {
    try {
      await this.#sync()
    } finally {
      await this.#file.close()
    }
  }

  async #sync(): Promise<void> {
    if (!this.#isSynced) await this.#file.datasync()
    this.#isSynced = true
  }

  async #write(drafts: readonly Draft[], durable: boolean): Promise<number> {
    const time = drafts[0]?.time ?? ''
    const all = [...this.#preface.map(each => ({ ...each, time })), ...drafts]
    const lines: Buffer[] = [Buffer.from(this.#lacksNewline ? '\n' : '')]
    let head = this.#head
    for (const draft of all) {
      const record = encodeRecord(head, draft)
      lines.push(record.line)
      head = record.head
    }
    const bytes = Buffer.concat(lines)
    this.#isDirty = true
    for (let at = 0; at < bytes.length; ) at += (await this.#file.write(bytes, at)).bytesWritten
    this.#isSynced = false
    if (durable) await this.#sync()
    this.#isDirty = false
    this.#head = head
    this.#sizeBytes += bytes.length
    this.#preface = []
    this.#lacksNewline = false
    return head.seq - drafts.length + 1
  }

  async #rotate(): Promise<void> {
    const stem = `audit-${String(this.#firstSeq).padStart(12, '0')}`
    const names = [`${stem}.jsonl`, ...Array.from({ length: 9 }, (_, index) => `${stem}.${index + 1}.jsonl`)]
    const name = names.find(each => !existsSync(join(dirname(this.path), each)))
    if (name === undefined) throw new AuditError('WRITE', `${stem}.jsonl is there already`)
    await rename(this.path, join(dirname(this.path), name))
    await this.#continueIn(name)
  }

  /** A new file with the same chain. Its first record says so, or a file without its beginning would look like one. */
  async #continueIn(from: string | undefined): Promise<void> {
    await this.#sync()
    const file = await openFile(this.path)
    await this.#file.close()
    this.#file = file
    this.#place = await file.stat()
    this.#sizeBytes = 0
    this.#firstSeq = this.#head.seq + 1
    this.#lacksNewline = false
    if (this.#head.seq > 0) this.#preface = [continued(from), ...this.#preface]
  }

  #changed(what: string): AuditError {
    return new AuditError('CHANGED', `${this.path} ${what}; move it aside, and the trail goes on in a new file`)
  }
}

interface Place {
  readonly head: Head
  readonly firstSeq: number
  readonly stats: Stats
  readonly end: TrailEnd
  readonly preface: readonly Omit<Draft, 'time'>[]
}

async function findPlace(file: FileHandle, path: string): Promise<Place> {
  const stats = await file.stat()
  const end = await readTrailEnd(file, path)
  const repairs = end.torn.length === 0 ? [] : [repaired(end.torn)]
  if (end.torn.length > 0) await file.truncate(end.sizeBytes)
  if (end.head !== undefined) {
    return { head: end.head, firstSeq: await readFirstSeq(file), stats, end, preface: repairs }
  }
  // Empty: the first one, or we ended between two steps of a rotation.
  const before = await newestRotated(dirname(path))
  const head = before?.head ?? GENESIS
  const preface = before === undefined ? repairs : [continued(before.name), ...repairs]
  return { head, firstSeq: head.seq + 1, stats, end, preface }
}

async function newestRotated(dir: string): Promise<{ readonly name: string; readonly head: Head } | undefined> {
  const name = (await readdir(dir))
    .filter(each => ROTATED.test(each))
    .sort()
    .at(-1)
  if (name === undefined) return undefined
  const file = await open(join(dir, name), 'r')
  try {
    const { head } = await readTrailEnd(file, join(dir, name))
    return head === undefined ? undefined : { name, head }
  } finally {
    await file.close()
  }
}

function continued(from: string | undefined): Omit<Draft, 'time'> {
  return { kind: 'trail continued', facts: from === undefined ? { moved: true } : { from: basename(from) } }
}

function repaired(torn: Buffer): Omit<Draft, 'time'> {
  const kept = torn.subarray(0, MAX_TORN_BYTES).toString('base64')
  return { kind: 'trail repaired', facts: { tornBytes: torn.length, tornSha256: sha256(torn), torn: kept } }
}

async function openFile(path: string): Promise<FileHandle> {
  const file = await open(path, 'a+', 0o600)
  const stats = await file.stat()
  if (stats.isFile() && (stats.mode & 0o077) !== 0) await file.chmod(0o600)
  if (stats.size === 0) await syncFolder(dirname(path))
  return file
}

/** The name of a new file is on the disk only when its folder is. */
async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r')
  await folder.sync().catch(() => {})
  await folder.close()
}

function absent(error: unknown): Stats | undefined {
  if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined
  throw error
}
