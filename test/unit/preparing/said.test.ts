import { PassThrough } from 'node:stream'
import { afterEach, expect, it, vi } from 'vitest'
import { Said } from '../../../src/preparing/said.ts'

afterEach(() => vi.useRealTimers())

function heard() {
  const lines: (readonly [string, number])[] = []
  return { lines, said: new Said((line, left) => lines.push([line, left])) }
}

it('lines come whole, however they were cut', () => {
  for (let cut = 0; cut <= 11; cut++) {
    const { lines, said } = heard()
    said.feed('one\n\ntwo\nx'.slice(0, cut))
    said.feed('one\n\ntwo\nx'.slice(cut))
    said.end()
    expect(lines.map(([line]) => line)).toEqual(['one', 'two', 'x'])
    expect(said.last).toBe('x')
  }
})

it('a line without an end has one', () => {
  const { lines, said } = heard()
  for (let times = 0; times < 1000; times++) said.feed('y'.repeat(1000))
  said.feed('\nnext\n')
  expect(lines).toEqual([
    [`${'y'.repeat(1000)}…`, 0],
    ['next', 0],
  ])
})

it('of a flood fifty lines come, ten more a second, and how many did not', () => {
  vi.useFakeTimers({ toFake: ['performance'] })
  const { lines, said } = heard()
  said.feed('flood\n'.repeat(1000))
  expect(lines).toHaveLength(50)
  vi.advanceTimersByTime(1000)
  said.feed('flood\n'.repeat(1000))
  expect(lines).toHaveLength(60)
  expect(lines[50]).toEqual(['flood', 950])
  said.end()
  expect(lines[60]).toEqual(['', 990])
})

it('who says too much in a while has to wait', () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
  const stream = new PassThrough({ highWaterMark: 1 })
  const { said } = heard()
  said.follow(stream)
  stream.emit('data', 'x'.repeat(200_000))
  expect(stream.isPaused()).toBe(true)
  vi.advanceTimersByTime(250)
  expect(stream.isPaused()).toBe(false)
  stream.emit('close')
  expect(vi.getTimerCount()).toBe(0)
})
