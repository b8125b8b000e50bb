/** The table: every row once, every citation of a test that is there, and CONFORMANCE.md and README as the rows say. */
import { readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { documentOf, SUMMARY, summaryOf } from './document.ts'
import { entries, rows } from './table.ts'

const root = new URL('../../', import.meta.url)
const read = (file: string) => readFileSync(new URL(file, root), 'utf8')

// For `npm run conformance`, which joins it with how the tests went.
const { CONFORMANCE_ROWS, PROTO, UPDATE_CONFORMANCE } = process.env
if (CONFORMANCE_ROWS !== undefined) writeFileSync(CONFORMANCE_ROWS, JSON.stringify(rows))
if (UPDATE_CONFORMANCE !== undefined) {
  writeFileSync(new URL('test/conformance/CONFORMANCE.md', root), documentOf(rows))
  writeFileSync(new URL('README.md', root), read('README.md').replace(SUMMARY, `${summaryOf(rows)}\n`))
}

describe('the table of rules', () => {
  it('has at least 150 rows that tests prove, and each rule once on each side', () => {
    expect(rows.filter(({ status }) => status === 'proven' || status === 'cited').length).toBeGreaterThanOrEqual(150)
    const named = rows.map(({ side, chapter, sentence, test }) => `${side}: ${chapter}: ${sentence}: ${test}`)
    expect(named.filter((each, at) => named.indexOf(each) !== at)).toEqual([])
  })

  it('has each title once on a side', () => {
    for (const all of Object.values(entries)) {
      const titles = all.flatMap(entry => ('title' in entry ? [entry.title] : []))
      expect(titles.filter((each, at) => titles.indexOf(each) !== at)).toEqual([])
    }
  })

  it('cites tests that are there', () => {
    for (const { file, test } of rows.filter(({ status }) => status === 'cited')) {
      const titles = [...read(file).matchAll(/\b(?:it|test)\('([^']+)'/g)].map(match => match[1] ?? '')
      expect(
        titles.some(title => test.endsWith(title)),
        `${test} in ${file}`,
      ).toBe(true)
    }
  })

  it('is what CONFORMANCE.md says (UPDATE_CONFORMANCE=1 writes it and the sum)', () => {
    expect(read('test/conformance/CONFORMANCE.md')).toBe(documentOf(rows))
  })

  it('is summed up in README', () => {
    expect(read('README.md')).toContain(summaryOf(rows))
  })

  // The specification is not in this repository: `PROTO=proto.md npm run conformance` where it is at hand.
  const quotes = (file: string) => () => {
    const chapters = new Map(
      readFileSync(file, 'utf8')
        .split(/^#+ /m)
        .map(text => [text.slice(0, text.indexOf('\n')), text.replace(/\s+/g, ' ')]),
    )
    const absent = rows.filter(({ chapter, sentence }) => chapters.get(chapter)?.includes(sentence) !== true)
    expect(absent.map(({ chapter, sentence }) => `${chapter}: ${sentence}`)).toEqual([])
  }
  if (PROTO !== undefined) it('quotes the specification', quotes(PROTO))
})
