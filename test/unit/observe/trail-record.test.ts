import { createHash } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { decodeRecord, encodeRecord, GENESIS, hasBytesBehindRecord } from '../../../src/observe/trail-record.ts'

const TIME = '2026-11-25T12:00:00.000Z'
const first = encodeRecord(GENESIS, { time: TIME, kind: 'session opened', facts: { who: 'cert:cn=alice', n: 1 } })
const line = first.line.subarray(0, -1)

describe('a record', () => {
  it('is a line of JSON whose hash is SHA-256 of all before it', () => {
    const body = `{"seq":1,"time":"${TIME}","kind":"session opened","who":"cert:cn=alice","n":1,"prev":"${'0'.repeat(64)}"`
    const hash = createHash('sha256').update(body).digest('hex')
    expect(first.line.toString()).toBe(`${body},"hash":"${hash}"}\n`)
    expect(first.head).toEqual({ seq: 1, hash })
  })

  it('has the hash of the one before in it', () => {
    const second = encodeRecord(first.head, { time: TIME, kind: 'session ended', facts: {} })
    expect(decodeRecord(second.line.subarray(0, -1))).toMatchObject({ seq: 2, prev: first.head.hash })
  })

  it('is read as it was written', () => {
    expect(decodeRecord(line)).toEqual({
      ...first.head,
      time: TIME,
      kind: 'session opened',
      prev: GENESIS.hash,
      facts: { who: 'cert:cn=alice', n: 1 },
    })
  })

  it('keeps text of every kind on its line', () => {
    const who = 'a\nb\u0000\u2028"}\\ é 🐟 ,"hash":"x"}'
    const record = encodeRecord(GENESIS, { time: TIME, kind: 'session opened', facts: { who } })
    expect(record.line.indexOf('\n')).toBe(record.line.length - 1)
    expect(decodeRecord(record.line.subarray(0, -1))?.facts).toEqual({ who })
  })

  it('is none when any bit of it is another one', () => {
    for (let bit = 0; bit < line.length * 8; bit++) {
      const changed = Buffer.from(line)
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      expect(decodeRecord(changed), `bit ${bit}`).toBeUndefined()
    }
  })

  it('is none when any part of its end is missing', () => {
    for (let length = 0; length < line.length; length++) {
      expect(decodeRecord(line.subarray(0, length))).toBeUndefined()
      expect(hasBytesBehindRecord(line.subarray(0, length))).toBe(false)
    }
  })

  it('with bytes behind it was not cut short by a crash', () => {
    expect(hasBytesBehindRecord(Buffer.concat([line, Buffer.from('x')]))).toBe(true)
    expect(hasBytesBehindRecord(line)).toBe(false)
    expect(hasBytesBehindRecord(Buffer.alloc(9))).toBe(false)
  })
})
