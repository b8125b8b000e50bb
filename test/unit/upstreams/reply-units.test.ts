import { expect, it } from 'vitest'
import { ReplyUnits } from '../../../src/upstreams/reply-units.ts'
import { everySplit, hex } from '../../support/bytes.ts'

const READ = 0
const WRITE = 1
const FLUSH = 3

/** Replies to READ 7 (4 bytes), FLUSH 9, WRITE 8 and FLUSH 10, which failed. */
const SIMPLE = [
  '67446698 00000000 0000000100000007 aabbccdd',
  '67446698 00000000 0000000100000009',
  '67446698 00000005 0000000100000008',
  '67446698 0000001c 000000010000000a',
]

/** READ 7 in two chunks; FLUSH 9 as NONE; FLUSH 10 as an error of ENOSPC with a text, and then NONE. */
const CHUNKS = [
  '668e33ef 0000 0001 0000000100000007 0000000a 0000000000000000 aabb',
  '668e33ef 0001 0000 0000000100000009 00000000',
  '668e33ef 0001 0001 0000000100000007 0000000a 0000000000000002 ccdd',
  '668e33ef 0000 8001 000000010000000a 00000008 0000001c 0002 6869',
  '668e33ef 0001 0000 000000010000000a 00000000',
]

function asked(isStructured: boolean) {
  const passed: Buffer[] = []
  const flushes: [number, number][] = []
  const units = new ReplyUnits(
    {
      piece: (bytes, end) => {
        expect(end).toBeLessThanOrEqual(bytes.length)
        passed.push(Buffer.from(bytes))
      },
      flushed: (cookie, error) => void flushes.push([cookie, error]),
    },
    isStructured,
  )
  units.ask(7, READ, 4)
  units.ask(9, FLUSH, 0)
  units.ask(10, FLUSH, 0)
  return { units, passed, flushes }
}

it('takes the replies to FLUSH out of simple ones, however they are cut', async () => {
  await everySplit(hex(...SIMPLE), (chunks, how) => {
    const { units, passed, flushes } = asked(false)
    units.ask(8, WRITE, 4096)
    for (const chunk of chunks) units.feed(chunk)
    expect(Buffer.concat(passed), how).toEqual(hex(SIMPLE[0] ?? '', SIMPLE[2] ?? ''))
    expect(flushes, how).toEqual([
      [9, 0],
      [10, 28],
    ])
    expect(units, how).toMatchObject({ isIdle: true, costBytes: 0 })
  })
})

it('takes the replies to FLUSH out of chunks, however they are cut', async () => {
  await everySplit(hex(...CHUNKS), (chunks, how) => {
    const { units, passed, flushes } = asked(true)
    for (const chunk of chunks) units.feed(chunk)
    expect(Buffer.concat(passed), how).toEqual(hex(CHUNKS[0] ?? '', CHUNKS[2] ?? ''))
    expect(flushes, how).toEqual([
      [9, 0],
      [10, 28],
    ])
    expect(units.isIdle, how).toBe(true)
  })
})

it('says where the last unit ends', () => {
  const ends: [number, number][] = []
  const units = new ReplyUnits({ piece: (bytes, end) => void ends.push([bytes.length, end]), flushed: () => {} }, false)
  units.ask(7, READ, 4)
  units.ask(8, READ, 4)
  units.feed(hex('67446698 00000000 0000000000000008 aabbccdd 67446698 00000000 0000000000000007 aa'))
  expect(ends).toEqual([[37, 20]])
  units.feed(hex('bbcc'))
  units.feed(hex('dd'))
  expect(ends.slice(1)).toEqual([
    [2, 0],
    [1, 1],
  ])
})

it('passes on a chunk as the memory that it came in', () => {
  const passed: Buffer[] = []
  const units = new ReplyUnits({ piece: bytes => void passed.push(bytes), flushed: () => {} }, false)
  units.ask(7, READ, 4)
  const chunk = hex(SIMPLE[0] ?? '')
  expect(units.feed(chunk)).toBe(true)
  expect(passed[0]).toBe(chunk)
})

it.each([
  ['a reply to nothing', '67446698 00000000 0000000000000063'],
  ['no magic of a reply', '67446699 00000000 0000000000000007'],
  ['a FLUSH with more than a text', '668e33ef 0001 8001 0000000000000009 00002000'],
])('throws for %s', (_, bytes) => {
  expect(() => asked(true).units.feed(hex(bytes))).toThrow()
})
