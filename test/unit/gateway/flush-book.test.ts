import { describe, expect, it } from 'vitest'
import { FlushBook } from '../../../src/gateway/flush-book.ts'

const NOTHING = { ackedMs: 0, flushedMs: 0, backMs: 1, lostMs: 0 }

describe('what connections that have ended have left', () => {
  it('is the last of each, by what they have in common', () => {
    const book = new FlushBook()
    book.leave('a', { ackedMs: 5, flushedMs: 6, backMs: 1, lostMs: 2 })
    book.leave('b', { ackedMs: 50, flushedMs: 0, backMs: 40, lostMs: 0 })
    book.leave('a', { ackedMs: 9, flushedMs: 3, backMs: 4, lostMs: 1 })
    expect(book.of('a')).toEqual({ ackedMs: 9, flushedMs: 6, backMs: 4, lostMs: 2 })
    expect(book.of('b')).toEqual({ ackedMs: 50, flushedMs: 0, backMs: 40, lostMs: 0 })
  })

  it('counts as of the oldest upstream while something of then is not flushed', () => {
    const book = new FlushBook()
    book.leave('a', { ackedMs: 5, flushedMs: 0, backMs: 1, lostMs: 0 })
    book.leave('a', { ackedMs: 50, flushedMs: 0, backMs: 40, lostMs: 0 })
    expect(book.of('a')?.backMs).toBe(1)
    book.leave('a', { ackedMs: 60, flushedMs: 55, backMs: 45, lostMs: 0 })
    expect(book.of('a')?.backMs).toBe(45)
  })

  it('is nothing of those who did nothing', () => {
    const book = new FlushBook()
    book.leave('a', NOTHING)
    expect(book.of('a')).toBeUndefined()
  })
})
