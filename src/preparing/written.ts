import type { ProcessLock } from '../platform/process-lock.ts'
import { PreparingError } from './errors.ts'
import type { Ground } from './ground.ts'
import type { PreparationRecord } from './records.ts'

/** What is written down of one preparation, and the lock that lets nobody else write it. */
export class Written {
  readonly #ground: Ground
  readonly #id: string
  readonly #facts: () => Readonly<Record<string, unknown>>
  #record: PreparationRecord | undefined
  #lock: ProcessLock | undefined

  /** `record`: what was found; `facts`: for the log. */
  constructor(
    ground: Ground,
    id: string,
    { record, facts }: { readonly record: PreparationRecord | undefined; facts(): Readonly<Record<string, unknown>> },
  ) {
    this.#ground = ground
    this.#id = id
    this.#record = record
    this.#facts = facts
  }

  /** As far as is known here. */
  get record(): PreparationRecord | undefined {
    return this.#record
  }

  get isLocked(): boolean {
    return this.#lock !== undefined
  }

  /** Takes the lock if it is not ours; what is written down counts then. @throws PreparingError LOCKED or STATE */
  claim(): void {
    let isOurs = false
    try {
      isOurs = this.isClaimed(() => this.#ground.lock(this.#id))
    } catch (cause) {
      throw this.#unwritable(cause)
    }
    if (!isOurs) throw new PreparingError('LOCKED', 'another gateway has it')
  }

  /** The same; false if another gateway has it. */
  isClaimed(lock = () => this.#ground.lockAnyway(this.#id)): boolean {
    if (this.#lock !== undefined) return true
    this.#lock = lock()
    if (this.#lock === undefined) return false
    this.#record = this.#ground.records.read(this.#id)
    return true
  }

  release(): void {
    this.#lock?.release()
    this.#lock = undefined
  }

  /** Writes something else down. @throws PreparingError STATE */
  note(record: PreparationRecord): void {
    try {
      this.write(record)
    } catch (cause) {
      throw this.#unwritable(cause)
    }
  }

  /** Changes what is written down, if anything is; what is changed so can be found out otherwise after a crash, if need be. */
  change(change: Partial<PreparationRecord>): void {
    if (this.#record === undefined) return
    const record = { ...this.#record, ...change }
    try {
      this.write(record)
    } catch (err) {
      this.#record = record
      this.#ground.log.warn({ ...this.#facts(), err }, 'state can not be written')
    }
  }

  /** @throws the error of node:fs; what was written down before is still there */
  write(record: PreparationRecord): void {
    const durable = record.phase !== this.#record?.phase || record.isKept !== this.#record.isKept
    this.#ground.records.write(record, { durable })
    this.#record = record
  }

  /** Nothing is there any more. @throws the error of node:fs */
  remove(): void {
    this.#record = undefined
    this.#ground.records.remove(this.#id)
  }

  #unwritable(cause: unknown): PreparingError {
    this.#ground.log.error({ ...this.#facts(), err: cause }, 'state can not be written')
    return new PreparingError('STATE', cause instanceof Error ? cause.message : String(cause), { cause })
  }
}
