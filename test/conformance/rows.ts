/**
 * The rules of proto.md as rows: each has a chapter and the words by which it is found there, and is kept by a test that
 * fails when it is broken, or is not kept, or does not bind a gateway, with the reason. proto.md itself is not here.
 */
import type { Ground } from './ground.ts'

/** Who is bound: nbdgate towards its clients (server), or towards upstreams (client). */
export type Side = 'server' | 'client'

/** Words of a rule by chapter: a piece of its sentence. */
export type Rules = Readonly<Record<string, readonly string[]>>

/** A test of this project, and the rules that fail with it. */
export interface Proof {
  readonly kind: 'proven'
  readonly title: string
  readonly rules: Rules
  readonly run: (ground: Ground) => Promise<void>
}

/** Rules that a test elsewhere proves: its file, and its title as a run reports it. */
export interface Citation {
  readonly kind: 'cited'
  readonly file: string
  readonly title: string
  readonly rules: Rules
}

/** Rules that are broken, with the reason; the test shows how, and fails once they are kept. */
export interface Breach {
  readonly kind: 'not kept'
  readonly title: string
  readonly why: string
  readonly rules: Rules
  /** Absent where it is a matter of what the program is, not of its bytes. */
  readonly run?: (ground: Ground) => Promise<void>
}

/** Rules that do not bind a gateway. */
export interface Exemption {
  readonly kind: 'not applicable'
  readonly why: string
  readonly rules: Rules
}

export type Entry = Proof | Citation | Breach | Exemption

export const proven = (title: string, rules: Rules, run: Proof['run']): Proof => ({ kind: 'proven', title, rules, run })

export const cited = (file: string, title: string, rules: Rules): Citation => ({ kind: 'cited', file, title, rules })

export const notKept = (title: string, why: string, rules: Rules, run?: Proof['run']): Breach => ({
  kind: 'not kept',
  title,
  why,
  rules,
  ...(run === undefined ? {} : { run }),
})

export const notApplicable = (why: string, rules: Rules): Exemption => ({ kind: 'not applicable', why, rules })

/** One line of the table. */
export interface Row {
  readonly side: Side
  readonly chapter: string
  readonly sentence: string
  readonly status: Entry['kind']
  /** Title of the test, where there is one. */
  readonly test: string
  /** Where the test is. */
  readonly file: string
  readonly why: string
}

/** The rows of a list of entries. */
export function rowsOf(side: Side, entries: readonly Entry[]): readonly Row[] {
  return entries.flatMap(entry =>
    Object.entries(entry.rules).flatMap(([chapter, sentences]) =>
      sentences.map(sentence => ({
        side,
        chapter,
        sentence,
        status: entry.kind,
        test:
          entry.kind === 'not applicable' || (entry.kind === 'not kept' && entry.run === undefined) ? '' : entry.title,
        file: entry.kind === 'cited' ? entry.file : `test/conformance/${side}.test.ts`,
        why: 'why' in entry ? entry.why : '',
      })),
    ),
  )
}
