import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { Backoff } from '../../../src/preparing/backoff.ts'
import { Turns } from '../../../src/preparing/turns.ts'

beforeEach(() => vi.useFakeTimers({ toFake: ['performance'] }))
afterEach(() => vi.useRealTimers())

it('what fails is left alone for longer each time, ten seconds at most, until it works', () => {
  const backoff = new Backoff()
  expect(backoff.pauseMs('a')).toBe(0)
  const pauses = Array.from({ length: 9 }, () => {
    backoff.failed('a')
    return backoff.pauseMs('a')
  })
  expect(pauses).toEqual([100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000])
  expect(backoff.pauseMs('b')).toBe(0)
  vi.advanceTimersByTime(9999)
  expect(backoff.pauseMs('a')).toBe(1)
  vi.advanceTimersByTime(1)
  expect(backoff.pauseMs('a')).toBe(0)
  backoff.worked('a')
  backoff.failed('a')
  expect(backoff.pauseMs('a')).toBe(100)
})

it('so many of one name run at once, in turn, also behind one that fails', async () => {
  const turns = new Turns(2)
  const begun: number[] = []
  const ends: ((fails: boolean) => void)[] = []
  const job = (number: number) => () =>
    new Promise<number>((resolve, reject) => {
      begun.push(number)
      ends[number] = fails => (fails ? reject(new Error('no')) : resolve(number))
    })
  const jobs = [0, 1, 2, 3].map(number => turns.run('a', job(number)).catch(() => -1))
  const other = turns.run('b', job(4))
  await vi.waitFor(() => expect(begun).toEqual([0, 1, 4]))
  ends[1]?.(true)
  await vi.waitFor(() => expect(begun).toEqual([0, 1, 4, 2]))
  ends[0]?.(false)
  await vi.waitFor(() => expect(begun).toEqual([0, 1, 4, 2, 3]))
  for (const each of [2, 3, 4]) ends[each]?.(false)
  expect(await Promise.all([...jobs, other])).toEqual([0, -1, 2, 3, 4])
})
