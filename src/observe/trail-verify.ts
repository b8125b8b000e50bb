/**
 * Checks a trail: each record is as it was written, follows the one before, and is what was sealed. Several files are one
 * trail, in the order given. Says all it finds, in the order of the files; after a break it goes on with what is there.
 */
import type { KeyObject } from 'node:crypto'
import { linesOf } from './trail-lines.ts'
import { decodeRecord, GENESIS, type Head, hasBytesBehindRecord, type TrailRecord } from './trail-record.ts'
import { judgeSeal, parseSeal, type Seal } from './trail-seal.ts'

/** Something at a line of a file. `torn` and `begins late` are facts to know; all else means that the trail is broken. */
export interface Finding {
  readonly kind: 'broken' | 'torn' | 'begins late'
  readonly file: string
  readonly line: number
  readonly message: string
}

/** What there is to a trail. */
export interface Verdict {
  readonly records: number
  readonly first: number | undefined
  readonly head: Head | undefined
  readonly findings: readonly Finding[]
  /** Seals that this trail holds; `checked`: their signatures too. */
  readonly seals: { readonly count: number; readonly checked: boolean; readonly last: number | undefined }
}

export interface VerifyOptions {
  /** A file with seals; one that is not there has none. */
  readonly seals?: string | undefined
  /** Whose seals count. With a key there must be a seal at least. */
  readonly key?: KeyObject | undefined
}

/** Verifies files as one trail. Throws the errors of node:fs. */
export function verifyTrail(files: readonly string[], options: VerifyOptions = {}): Verdict {
  const seals = options.seals === undefined ? [] : sealsIn(options.seals)
  const walk = new Walk(new Set(seals.map(({ seal }) => seal?.seq ?? 0)))
  for (const [index, file] of files.entries()) walk.file(file, index === files.length - 1)
  return walk.verdict(checkSeals(seals, options, walk), options.key !== undefined)
}

class Walk {
  readonly findings: Finding[] = []
  /** Of the records that are wanted. */
  readonly hashes = new Map<number, string>()
  readonly #wanted: ReadonlySet<number>
  head: Head | undefined
  first: number | undefined
  #records = 0
  #wasBroken = false
  #last: { readonly file: string; readonly line: number } = { file: '', line: 0 }

  constructor(wanted: ReadonlySet<number>) {
    this.#wanted = wanted
  }

  file(file: string, isLast: boolean): void {
    for (const { number, bytes, isEnded } of linesOf(file)) {
      this.#last = { file, line: number }
      const record = decodeRecord(bytes)
      if (record !== undefined) this.#record(record, number === 1)
      else if (isEnded || !isLast || hasBytesBehindRecord(bytes)) this.#broken('this is no record, or it was changed')
      else this.#find('torn', `${bytes.length} bytes of a record that was not finished`)
    }
  }

  broken(message: string, at: { readonly file: string; readonly line: number } = this.#last): void {
    this.findings.push({ kind: 'broken', ...at, message })
  }

  verdict(seals: readonly Seal[], checked: boolean): Verdict {
    const last = seals.length === 0 ? undefined : Math.max(...seals.map(({ seq }) => seq))
    const { first, head, findings } = this
    return { records: this.#records, first, head, findings, seals: { count: seals.length, checked, last } }
  }

  #record(record: TrailRecord, isFirstLine: boolean): void {
    this.#records++
    if (this.#wanted.has(record.seq)) this.hashes.set(record.seq, record.hash)
    const before = this.head
    const wasBroken = this.#wasBroken
    this.head = { seq: record.seq, hash: record.hash }
    this.#wasBroken = false
    if (before === undefined) this.#begin(record, isFirstLine, wasBroken)
    else this.#follow(record, before, wasBroken)
  }

  #follow(record: TrailRecord, before: Head, wasBroken: boolean): void {
    // A changed record is not counted: what stands around it has to fit together without it.
    const gap = record.seq - before.seq
    if (wasBroken && gap > 1) return
    if (gap !== 1)
      this.#broken(`record ${record.seq} follows record ${before.seq}: removed, reordered or repeated`, false)
    else if (record.prev !== before.hash) {
      this.#broken(`record ${record.seq} does not belong behind this record ${before.seq}`, false)
    }
  }

  #begin(record: TrailRecord, isFirstLine: boolean, wasBroken: boolean): void {
    this.first = record.seq
    if (record.seq === 1 && record.prev === GENESIS.hash) return
    if (record.kind === 'trail continued' && isFirstLine) {
      const from = typeof record.facts.from === 'string' ? `: ${record.facts.from}` : ''
      this.#find('begins late', `begins with record ${record.seq}; those before are in another file${from}`)
    } else if (!wasBroken) this.#broken(`begins with record ${record.seq}: those before it were removed`, false)
  }

  #broken(message: string, isLine = true): void {
    if (isLine) this.#wasBroken = true
    this.broken(message)
  }

  #find(kind: Finding['kind'], message: string): void {
    this.findings.push({ kind, ...this.#last, message })
  }
}

interface FoundSeal {
  readonly at: { readonly file: string; readonly line: number }
  /** Undefined for a line that is none. */
  readonly seal: Seal | undefined
}

function sealsIn(file: string): readonly FoundSeal[] {
  try {
    return [...linesOf(file)].map(({ number, bytes }) => ({ at: { file, line: number }, seal: parseSeal(bytes) }))
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return []
    throw error
  }
}

/** The seals that hold; those of other keys and of records before the first one are left out. */
function checkSeals(found: readonly FoundSeal[], { key, seals }: VerifyOptions, walk: Walk): readonly Seal[] {
  const holding: Seal[] = []
  let ours = 0
  for (const { at, seal } of found) {
    if (seal === undefined) {
      walk.broken('this is no seal, or it was changed', at)
      continue
    }
    const judged = key === undefined ? 'holds' : judgeSeal(seal, key)
    const hash = walk.hashes.get(seal.seq)
    if (judged === 'other key') continue
    ours++
    if (judged === 'false') walk.broken('the signature of this seal is false', at)
    else if (hash === seal.hash) holding.push(seal)
    else if (hash !== undefined) walk.broken(`record ${seal.seq} is another one than was sealed`, at)
    else if (walk.first === undefined || seal.seq >= walk.first) {
      walk.broken(`record ${seal.seq} was sealed, and is not there`, at)
    }
  }
  if (key !== undefined && ours === 0) {
    walk.broken('there is no seal of this key', { file: seals ?? '', line: 1 })
  }
  return holding
}
