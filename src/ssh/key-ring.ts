/**
 * Who may log in by SSH, from the files that say so. They are read again when they have changed, so that a key taken out
 * of a file is out at the next login. A file that can not be read admits nobody, and where it names revoked keys, nobody
 * at all.
 */
import { readFileSync, statSync } from 'node:fs'
import { type AuthorizedKey, parseAuthorizedKeys } from './authorized-keys.ts'
import { type LineProblem, parsePlainKeys, parseRevokedKeys } from './key-file.ts'

/** Paths. */
export interface KeyFiles {
  readonly authorizedKeys?: string | undefined
  readonly userCa?: string | undefined
  readonly revokedKeys?: string | undefined
}

/** What the files say. */
export interface Keys {
  readonly authorized: readonly AuthorizedKey[]
  /** Fingerprints of the authorities whose certificates log in as each of their principals. */
  readonly authorities: ReadonlySet<string>
  /** Fingerprints; undefined: not known, so nobody may come in. */
  readonly revoked: ReadonlySet<string> | undefined
}

/** A problem in one of the files; without a line it is the file itself. */
export interface FileProblem {
  readonly file: string
  readonly problem: LineProblem | undefined
}

interface Read<T> {
  readonly version: string
  readonly value: T | undefined
  readonly problems: readonly FileProblem[]
}

export class KeyRing {
  readonly #files: KeyFiles
  readonly #warn: (problem: FileProblem) => void
  #authorized: Read<readonly AuthorizedKey[]> | undefined
  #authorities: Read<ReadonlySet<string>> | undefined
  #revoked: Read<ReadonlySet<string>> | undefined

  /** `warn` is told of each problem once a version of a file. */
  constructor(files: KeyFiles, warn: (problem: FileProblem) => void) {
    this.#files = files
    this.#warn = warn
  }

  /** What the files say now. Never throws. */
  keys(): Keys {
    const { authorizedKeys, userCa, revokedKeys } = this.#files
    this.#authorized = this.#fresh(this.#authorized, authorizedKeys, text => {
      const { keys, problems } = parseAuthorizedKeys(text)
      return { value: keys, problems }
    })
    this.#authorities = this.#fresh(this.#authorities, userCa, text => {
      const { keys, problems } = parsePlainKeys(text)
      return { value: new Set(keys.map(({ key }) => key.fingerprint)), problems }
    })
    this.#revoked = this.#fresh(this.#revoked, revokedKeys, text => {
      const { fingerprints, problems } = parseRevokedKeys(text)
      // A line that is not understood could be the key that has been stolen.
      return { value: problems.length === 0 ? fingerprints : undefined, problems }
    })
    return {
      authorized: this.#authorized?.value ?? [],
      authorities: this.#authorities?.value ?? new Set(),
      revoked: revokedKeys === undefined ? new Set() : this.#revoked?.value,
    }
  }

  /** All that is wrong with the files as they were read last. */
  get problems(): readonly FileProblem[] {
    return [this.#authorized, this.#authorities, this.#revoked].flatMap(each => each?.problems ?? [])
  }

  #fresh<T>(
    before: Read<T> | undefined,
    file: string | undefined,
    parse: (text: string) => { readonly value: T | undefined; readonly problems: readonly LineProblem[] },
  ): Read<T> | undefined {
    if (file === undefined) return undefined
    const version = versionOf(file)
    if (version === before?.version) return before
    const read = readWith(file, version, parse)
    for (const problem of read.problems) this.#warn(problem)
    return read
  }
}

function readWith<T>(
  file: string,
  version: string,
  parse: (text: string) => { readonly value: T | undefined; readonly problems: readonly LineProblem[] },
): Read<T> {
  try {
    const { value, problems } = parse(readFileSync(file, 'utf8'))
    return { version, value, problems: problems.map(problem => ({ file, problem })) }
  } catch {
    return { version, value: undefined, problems: [{ file, problem: undefined }] }
  }
}

/** Changes whenever the file does: one that is replaced has another inode. */
function versionOf(file: string): string {
  try {
    const { mtimeNs, ctimeNs, size, ino } = statSync(file, { bigint: true })
    return [mtimeNs, ctimeNs, size, ino].join(' ')
  } catch {
    return 'unreadable'
  }
}
