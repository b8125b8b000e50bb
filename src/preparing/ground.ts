import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { BackendConfig, ExportConfig, HooksConfig } from '../config/config.ts'
import { socketPathProblem } from '../config/upstream-uri.ts'
import type { Log } from '../observe/log.ts'
import { type Owner, ownerOf } from '../platform/owner.ts'
import { holderOf, type ProcessLock, tryLock } from '../platform/process-lock.ts'
import { Backoff } from './backoff.ts'
import { GroupGuard } from './group-guard.ts'
import { hash16 } from './names.ts'
import { Records } from './records.ts'
import { Turns } from './turns.ts'

/** Programs of one export that run at once. */
const AT_ONCE = 8

/** An export that something is run for. */
export interface Prepared extends Pick<ExportConfig, 'name'> {
  readonly upstream: BackendConfig
  readonly hooks: HooksConfig
}

/** What all preparations share: folders, records, and limits. */
export class Ground {
  readonly log: Log
  readonly guard: GroupGuard
  readonly turns = new Turns(AT_ONCE)
  readonly backoff = new Backoff()
  readonly records: Records
  readonly gateway: Owner = ownerOf(process.pid)
  readonly #draining = new AbortController()
  readonly #closing = new AbortController()
  readonly #locks: string
  readonly #overlays: string
  readonly #sockets: string
  readonly #temporary: string[] = []

  /** Makes the folders in `state`, or in one that goes with us. @throws the error of node:fs */
  constructor(state: string | undefined, log: Log) {
    this.log = log
    this.guard = new GroupGuard(log)
    const home = state ?? this.#temporaryFolder()
    this.records = new Records(join(home, 'preparations'))
    this.#overlays = join(home, 'overlays')
    this.#locks = join(home, 'locks')
    for (const each of [this.#overlays, this.#locks]) mkdirSync(each, { recursive: true, mode: 0o700 })
    const sockets = join(home, 'run')
    const fits = socketPathProblem(join(sockets, `${hash16('')}.sock.new`)) === undefined
    this.#sockets = fits ? sockets : this.#temporaryFolder()
    mkdirSync(this.#sockets, { recursive: true, mode: 0o700 })
  }

  /** Aborted when nobody is let in any more: what is made ready is for nobody. */
  get draining(): AbortSignal {
    return this.#draining.signal
  }

  /** Aborted when the gateway ends: nothing is begun any more. */
  get closing(): AbortSignal {
    return this.#closing.signal
  }

  /** The lock of a preparation; undefined if another process has it. @throws the error of node:fs */
  lock(id: string): ProcessLock | undefined {
    const lock = tryLock(join(this.#locks, id))
    return 'release' in lock ? lock : undefined
  }

  /** The same where no lock can be written: what makes room on a full disk must not fail for want of it. */
  lockAnyway(id: string): ProcessLock | undefined {
    try {
      return this.lock(id)
    } catch (err) {
      this.log.warn({ id, err }, 'state can not be written')
      return holderOf(join(this.#locks, id)) === undefined ? { release: () => {} } : undefined
    }
  }

  overlayOf(id: string): string {
    return join(this.#overlays, id)
  }

  socketOf(id: string): string {
    return join(this.#sockets, `${hash16(id)}.sock`)
  }

  /** Nobody is let in any more. */
  drain(): void {
    this.#draining.abort()
  }

  /** Nothing is begun any more. */
  close(): void {
    this.drain()
    this.#closing.abort()
  }

  /** All has ended. */
  leave(): void {
    this.guard.close()
    for (const folder of this.#temporary) rmSync(folder, { recursive: true, force: true })
  }

  #temporaryFolder(): string {
    const folder = mkdtempSync(join(tmpdir(), 'nbdgate-'))
    this.#temporary.push(folder)
    return folder
  }
}
