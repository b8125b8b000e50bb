/**
 * The audit trail as the gateway sees it: one queue, whose order is the order of the trail. All that waits is written at
 * once, and is on the disk (fdatasync) before anybody who asked is answered; nothing here blocks the relay. What nobody
 * waits for is only written: the next opening should not have to wait for its sync as well.
 *
 * While the trail can not be written, whoever must be in it is told so (and does not get in), and what has happened
 * already waits in memory until writing works again.
 */
import { mkdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Audit, AuditOptions, AuditState } from './audit.ts'
import { AuditError } from './errors.ts'
import { type Draft, TrailFile } from './trail-file.ts'
import { type TrailLock, takeLock } from './trail-lock.ts'
import type { AuditFacts, AuditKind } from './trail-record.ts'

interface Entry {
  readonly draft: Draft
  /** Somebody waits for it. */
  readonly asked: { resolve(seq: number | undefined): void; reject(error: AuditError): void } | undefined
}

/** Records that wait in memory at most. */
const MAX_WAITING = 10_000
const RETRY_MS = 1000
const WRITE_MS = 5000

/** What the system may say for a while, and not for ever: a gateway starts in spite of it. */
const PASSING = new Set(['ENOSPC', 'EDQUOT', 'EIO', 'EFBIG', 'EROFS'])

/**
 * Opens the trail in a folder and takes it for this process. A full disk is no reason not to start: then nobody gets in.
 * @throws AuditError when the trail can not be used
 */
export async function openAudit(options: AuditOptions): Promise<Audit> {
  const trail = new TrailQueue(options)
  await trail.start()
  return trail
}

class TrailQueue implements Audit {
  readonly #options: AuditOptions
  readonly #writeMs: number
  #queue: Entry[] = []
  #file: TrailFile | undefined
  #lock: TrailLock | undefined
  #pumping: Promise<void> | undefined
  #failing = false
  /** Records on their way to the disk. */
  #writing = 0
  #lost = 0
  #retry: NodeJS.Timeout | undefined
  #closing: Promise<void> | undefined

  constructor(options: AuditOptions) {
    this.#options = options
    this.#writeMs = options.writeMs ?? WRITE_MS
  }

  async start(): Promise<void> {
    try {
      await this.#open()
      const { mode } = await stat(this.#options.dir)
      if ((mode & 0o022) !== 0)
        this.#options.log.warn({ dir: this.#options.dir }, 'others may write to the state folder')
    } catch (error) {
      const failure = asAuditError(error)
      const cause = failure.cause instanceof Error && 'code' in failure.cause ? String(failure.cause.code) : ''
      const mayPass = PASSING.has(cause) || (this.#options.onFailure === 'warn' && failure.code === 'WRITE')
      if (!mayPass) {
        await this.#release()
        throw failure
      }
      this.#tell(failure)
    }
  }

  async write(kind: AuditKind, facts: AuditFacts): Promise<number | undefined> {
    if (this.#closing !== undefined) throw new AuditError('WRITE', 'the trail is closed')
    let timer: NodeJS.Timeout | undefined
    try {
      return await new Promise((resolve, reject) => {
        // A file system that does not answer (NFS) must not hold visitors for ever.
        const late = new AuditError('WRITE', `the audit trail can not be written: not within ${this.#writeMs} ms`)
        const give = (): void => (this.#options.onFailure === 'refuse' ? reject(late) : resolve(undefined))
        timer = setTimeout(() => {
          this.#tell(late)
          give()
        }, this.#writeMs)
        this.#enqueue({ draft: draft(kind, facts), asked: { resolve, reject } })
      })
    } finally {
      clearTimeout(timer)
    }
  }

  note(kind: AuditKind, facts: AuditFacts): void {
    if (this.#closing === undefined) this.#enqueue({ draft: draft(kind, facts), asked: undefined })
  }

  state(): AuditState {
    return { failing: this.#failing, waiting: this.#queue.length + this.#writing, lost: this.#lost }
  }

  close(): Promise<void> {
    this.#closing ??= this.#finish()
    return this.#closing
  }

  async #finish(): Promise<void> {
    const isFlushed = await within(this.#flush(), this.#writeMs)
    const count = this.#queue.length + this.#writing
    if (count > 0) this.#options.log.error({ count }, 'audit records lost')
    if (isFlushed) await this.#release()
    else this.#lock?.release()
  }

  async #flush(): Promise<void> {
    while (this.#pumping !== undefined) await this.#pumping
    // Notes that waited for a disk to have room again: one last try.
    if (this.#queue.length > 0) await this.#pump()
  }

  async #release(): Promise<void> {
    clearTimeout(this.#retry)
    await this.#file?.close().catch(() => {})
    this.#file = undefined
    this.#lock?.release()
    this.#lock = undefined
  }

  #enqueue(entry: Entry): void {
    if (entry.asked === undefined && this.#queue.length >= MAX_WAITING) this.#lost++
    else this.#queue.push(entry)
    // While a failure lasts, a note alone is no reason to try again at once.
    if (this.#failing && entry.asked === undefined) this.#retryLater()
    else this.#start()
  }

  #start(): void {
    this.#pumping ??= this.#pump().finally(() => {
      this.#pumping = undefined
      // What came between the last look at the queue and now.
      if (this.#isDue()) this.#start()
    })
  }

  async #pump(): Promise<void> {
    do {
      const batch = this.#queue.splice(0)
      this.#writing = batch.length
      try {
        const file = await this.#open()
        const lost = this.#lost
        const drafts = batch.map(entry => entry.draft)
        if (lost > 0) drafts.push(draft('records lost', { count: lost }))
        const isAsked = batch.some(entry => entry.asked !== undefined)
        const first = await file.append(drafts, isAsked)
        this.#lost -= lost
        this.#works(batch.length)
        for (const [index, entry] of batch.entries()) entry.asked?.resolve(first + index)
      } catch (error) {
        await this.#rollBack()
        this.#fail(batch, asAuditError(error))
      }
      this.#writing = 0
    } while (this.#isDue())
  }

  #isDue(): boolean {
    return this.#failing ? this.#queue.some(entry => entry.asked !== undefined) : this.#queue.length > 0
  }

  async #open(): Promise<TrailFile> {
    this.#lock ??= await lockIn(this.#options.dir)
    this.#file ??= await TrailFile.open(join(this.#options.dir, 'audit.jsonl'), this.#options.rotateBytes)
    return this.#file
  }

  async #rollBack(): Promise<void> {
    if (this.#file === undefined || (await this.#file.rollBack())) return
    const file = this.#file
    this.#file = undefined
    await file.close().catch(() => {})
  }

  #works(count: number): void {
    if (this.#failing) this.#options.log.warn({ count }, 'audit trail works again')
    this.#failing = false
  }

  #fail(batch: readonly Entry[], error: AuditError): void {
    const waiting: Entry[] = []
    for (const entry of batch) {
      if (entry.asked === undefined) waiting.push(entry)
      else if (this.#options.onFailure === 'refuse') entry.asked.reject(error)
      else {
        entry.asked.resolve(undefined)
        waiting.push({ draft: entry.draft, asked: undefined })
      }
    }
    this.#queue.unshift(...waiting)
    this.#dropTooMany()
    this.#tell(error)
  }

  #dropTooMany(): void {
    while (this.#queue.length > MAX_WAITING) {
      const last = this.#queue.findLastIndex(entry => entry.asked === undefined)
      if (last < 0) break
      this.#queue.splice(last, 1)
      this.#lost++
    }
  }

  /** Once for each time that it begins to fail. */
  #tell(error: AuditError): void {
    if (!this.#failing) this.#options.log.error({ code: error.code, err: error }, 'audit trail failed')
    this.#failing = true
    this.#retryLater()
  }

  #retryLater(): void {
    if (this.#closing !== undefined || (this.#queue.length === 0 && this.#lost === 0)) return
    this.#retry ??= setTimeout(() => {
      this.#retry = undefined
      this.#start()
    }, this.#options.retryMs ?? RETRY_MS).unref()
  }
}

/** Whether it has come to its end in time. */
async function within(done: Promise<void>, ms: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>(resolve => {
    timer = setTimeout(() => resolve(false), ms)
  })
  try {
    return await Promise.race([done.then(() => true), late])
  } finally {
    clearTimeout(timer)
  }
}

async function lockIn(dir: string): Promise<TrailLock> {
  await mkdir(dir, { recursive: true, mode: 0o700 })
  return takeLock(join(dir, 'audit.lock'))
}

function draft(kind: AuditKind, facts: AuditFacts): Draft {
  return { time: new Date().toISOString(), kind, facts }
}

function asAuditError(error: unknown): AuditError {
  if (error instanceof AuditError) return error
  const what = error instanceof Error && 'code' in error ? String(error.code) : 'an error'
  return new AuditError('WRITE', `the audit trail can not be written: ${what}`, { cause: error })
}
