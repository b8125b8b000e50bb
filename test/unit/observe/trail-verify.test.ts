import { generateKeyPairSync } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { linesOf } from '../../../src/observe/trail-lines.ts'
import { decodeRecord, encodeRecord, type Head } from '../../../src/observe/trail-record.ts'
import { makeSeal } from '../../../src/observe/trail-seal.ts'
import { type Finding, type VerifyOptions, verifyTrail } from '../../../src/observe/trail-verify.ts'
import { tempFolder, trailLines, written } from './trail.ts'

const dir = tempFolder()

function verify(content: string | Uint8Array, options: VerifyOptions = {}) {
  return verifyTrail([written(dir.path('audit.jsonl'), content)], options)
}
const broken = (findings: readonly Finding[]) => findings.filter(({ kind }) => kind === 'broken')
const linesBroken = (content: string | Uint8Array) => broken(verify(content).findings).map(({ line }) => line)
const headOf = (line: string | undefined): Head =>
  decodeRecord(Buffer.from((line ?? '').trimEnd())) ?? { seq: 0, hash: '' }

const five = trailLines([1, 2, 3, 4, 5].map(n => ({ n })))
const trails = fc
  .array(
    fc.dictionary(
      fc.string({ unit: 'grapheme', maxLength: 8 }).map(name => `x${name}`),
      fc.jsonValue({ maxDepth: 1 }),
      { maxKeys: 3 },
    ),
    {
      minLength: 1,
      maxLength: 12,
    },
  )
  .map(facts => trailLines(facts))

describe('a trail', () => {
  it('is intact as it was written, whatever is in it', () => {
    fc.assert(
      fc.property(trails, lines => {
        const { findings, records, head, first } = verify(lines.join(''))
        expect(findings).toEqual([])
        expect({ records, first, seq: head?.seq }).toEqual({ records: lines.length, first: 1, seq: lines.length })
      }),
    )
  })

  it('is broken by any byte that is another one', () => {
    fc.assert(
      fc.property(trails, fc.nat(), fc.integer({ min: 1, max: 255 }), (lines, place, change) => {
        const bytes = Buffer.from(lines.join(''))
        const at = place % bytes.length
        bytes[at] = (bytes[at] ?? 0) ^ change
        expect(broken(verify(bytes).findings).length).toBeGreaterThan(0)
      }),
      { numRuns: 500 },
    )
  })

  it('is broken by any record that is removed, but for the last ones', () => {
    fc.assert(
      fc.property(trails, fc.nat(), fc.nat(), (lines, from, count) => {
        fc.pre(lines.length > 1)
        const begin = from % (lines.length - 1)
        const end = begin + 1 + (count % (lines.length - 1 - begin))
        const left = [...lines.slice(0, begin), ...lines.slice(end)]
        expect(broken(verify(left.join('')).findings)).toMatchObject([{ line: begin + 1 }])
      }),
    )
  })

  it('is broken by any two records in the wrong order, and by one that is there twice', () => {
    fc.assert(
      fc.property(trails, fc.nat(), fc.nat(), (lines, one, other) => {
        fc.pre(lines.length > 1)
        const [a, b] = [one % lines.length, other % lines.length]
        const twice = [...lines.slice(0, a + 1), ...lines.slice(a)]
        expect(linesBroken(twice.join(''))).toContain(a + 2)
        if (a === b) return
        const swapped = lines.map((line, index) => (index === a ? lines[b] : index === b ? lines[a] : line))
        expect(linesBroken(swapped.join(''))).toContain(Math.min(a, b) + 1)
      }),
    )
  })

  it('names the one line that was changed, and believes those around it', () => {
    const text = five.join('').replace('"n":3', '"n":7')
    expect(verify(text).findings).toEqual([
      { kind: 'broken', file: dir.path('audit.jsonl'), line: 3, message: 'this is no record, or it was changed' },
    ])
  })

  it('names the line of a record that was made anew with its own hash', () => {
    const made = encodeRecord(headOf(five[1]), { time: '', kind: 'session opened', facts: { n: 7 } })
    expect(linesBroken([five[0], five[1], made.line.toString(), five[3], five[4]].join(''))).toEqual([4])
  })

  it('that lacks its beginning is broken: a file that goes on begins with a record that says so', () => {
    expect(linesBroken(five.slice(2).join(''))).toEqual([1])
  })

  it('that is cut anywhere in its last record has a torn line, which is no break', () => {
    const text = Buffer.from(five.join(''))
    const last = Buffer.byteLength(five[4] ?? '')
    for (let cut = 2; cut < last; cut++) {
      const { findings, records } = verify(text.subarray(0, text.length - cut))
      expect({ findings, records }).toMatchObject({ findings: [{ kind: 'torn', line: 5 }], records: 4 })
    }
    expect(verify(text.subarray(0, -1))).toMatchObject({ findings: [], records: 5 })
  })

  it('may be in several files, in their order only', () => {
    const next = encodeRecord(headOf(five[4]), { time: '', kind: 'trail continued', facts: { from: 'a' } })
    const [a, b] = [written(dir.path('a'), five.join('')), written(dir.path('b'), next.line)]
    expect(verifyTrail([a, b])).toMatchObject({ findings: [], records: 6 })
    expect(broken(verifyTrail([b, a]).findings)).toMatchObject([{ file: a, line: 1 }])
    expect(verifyTrail([b]).findings).toMatchObject([{ kind: 'begins late', line: 1 }])
    written(a, five.slice(0, -1).join(''))
    expect(broken(verifyTrail([a, b]).findings)).toMatchObject([{ file: b, line: 1 }])
    written(a, five.join('').slice(0, -9))
    expect(broken(verifyTrail([a, b]).findings)).toMatchObject([{ file: a, line: 5 }])
  })

  it('of nothing is intact', () => {
    expect(verify('')).toMatchObject({ findings: [], records: 0 })
  })

  it('is read in pieces that end anywhere, and lines longer than any record do not fill the memory', () => {
    const long = 'x'.repeat(3 * 1024 * 1024)
    const file = written(dir.path('long'), `${long}\nshort\n${long}`)
    const lines = [...linesOf(file)].map(({ number, bytes, isEnded }) => [
      number,
      bytes.length <= 2 * 1024 * 1024,
      isEnded,
    ])
    expect(lines).toEqual([
      [1, true, true],
      [2, true, true],
      [3, true, false],
    ])
  })
})

describe('a seal', () => {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  const other = generateKeyPairSync('ed25519')
  const sealOf = (line: string | undefined, key = privateKey) =>
    `${makeSeal(headOf(line), '2026-11-25T12:00:00.000Z', key)}\n`
  const sealed = (content: string, ...seals: string[]) =>
    verify(content, { key: publicKey, seals: written(dir.path('audit.seals'), seals.join('')) })

  it('holds for the trail that it was made of, and for one that has grown since', () => {
    const seals = [sealOf(five[1]), sealOf(five[2])]
    expect(sealed(five.join(''), ...seals)).toMatchObject({ findings: [], seals: { count: 2, checked: true, last: 3 } })
  })

  it('finds records that were removed from the end', () => {
    const { findings } = sealed(five.slice(0, 3).join(''), sealOf(five[1]), sealOf(five[3]))
    expect(findings).toMatchObject([{ line: 2, message: 'record 4 was sealed, and is not there' }])
  })

  it('finds a trail that was written anew', () => {
    const anew = trailLines([1, 2, 3, 4, 6].map(n => ({ n })))
    expect(sealed(anew.join(''), sealOf(five[4])).findings).toMatchObject([
      { message: 'record 5 is another one than was sealed' },
    ])
  })

  it('must be there when a key is given', () => {
    expect(sealed(five.join('')).findings).toMatchObject([{ message: 'there is no seal of this key' }])
    expect(sealed(five.join(''), sealOf(five[4], other.privateKey)).findings).toHaveLength(1)
    expect(verify(five.join(''), { seals: dir.path('absent') }).findings).toEqual([])
  })

  it('is false when any byte of it is another one', () => {
    const seal = sealOf(five[4])
    fc.assert(
      fc.property(fc.nat({ max: seal.length - 2 }), fc.integer({ min: 1, max: 127 }), (at, change) => {
        const bytes = Buffer.from(seal)
        bytes[at] = (bytes[at] ?? 0) ^ change
        expect(sealed(five.join(''), bytes.toString('latin1')).findings.length).toBeGreaterThan(0)
      }),
      { numRuns: 300 },
    )
  })

  it('of records in a file that was not given is left out', () => {
    const next = encodeRecord(headOf(five[4]), { time: '', kind: 'trail continued', facts: {} }).line.toString()
    expect(sealed(next, sealOf(five[4]), sealOf(next))).toMatchObject({
      findings: [{ kind: 'begins late' }],
      seals: { count: 1, last: 6 },
    })
  })
})
