/** Trails to be tested: written by the product, spoiled by hand. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach } from 'vitest'
import type { Log } from '../../../src/observe/log.ts'
import { encodeRecord, GENESIS, type Head } from '../../../src/observe/trail-record.ts'

/** One line that was logged. */
export interface Logged {
  readonly level: string
  readonly message: string
  readonly facts: Readonly<Record<string, unknown>>
}

/** A log that keeps its lines. */
export function keptLog(): { readonly log: Log; readonly lines: Logged[] } {
  const lines: Logged[] = []
  const keep = (level: string) => (facts: Readonly<Record<string, unknown>>, message: string) =>
    void lines.push({ level, message, facts })
  return { log: { debug: keep('debug'), info: keep('info'), warn: keep('warn'), error: keep('error') }, lines }
}

/** A folder for each test. */
export function tempFolder(): { path(...names: string[]): string } {
  let dir = ''
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'nbdgate-trail-'))
  })
  afterEach(() => rmSync(dir, { recursive: true, force: true }))
  return { path: (...names) => join(dir, ...names) }
}

/** The lines of a trail with these facts, each with its newline. */
export function trailLines(facts: readonly Readonly<Record<string, unknown>>[], start: Head = GENESIS): string[] {
  let head = start
  return facts.map((each, index) => {
    const time = new Date(index * 1000).toISOString()
    const record = encodeRecord(head, { time, kind: 'session opened', facts: each })
    head = record.head
    return record.line.toString()
  })
}

/** A record of a file as it lies there, undefined if it is not JSON. */
export function recordsIn(file: string): Record<string, unknown>[] {
  return readFileSync(file, 'utf8')
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line))
}

/** Writes a file and names it. */
export function written(file: string, content: string | Uint8Array): string {
  writeFileSync(file, content)
  return file
}
