import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { AWAKE_MS, ShortWait, SKIPPED_AFTER_LONG } from '../../../src/relay/short-wait.ts'

describe('a short wait', () => {
  let looks: (() => void)[] = []
  let nowMs = 1000

  beforeEach(() => {
    looks = []
    vi.spyOn(performance, 'now').mockImplementation(() => nowMs)
    vi.spyOn(globalThis, 'setImmediate').mockImplementation(((look: () => void) => {
      looks.push(look)
    }) as never)
  })

  /** Lets the loop turn; whether it stays awake. */
  const turn = (ms: number): boolean => {
    nowMs += ms
    for (const look of looks.splice(0)) look()
    return looks.length > 0
  }

  /** Lets it fall asleep: the loop is one of the whole process. */
  const sleep = (): void => {
    while (turn(AWAKE_MS));
  }

  afterEach(() => {
    sleep()
    vi.restoreAllMocks()
  })

  it('keeps the loop awake, once for all, and no longer than it may last', () => {
    new ShortWait(true).begin()
    new ShortWait(true).begin()
    expect(looks).toHaveLength(1)
    expect(turn(AWAKE_MS / 2)).toBe(true)
    expect(turn(AWAKE_MS)).toBe(false)
  })

  it('is tried again at once when the answer came in time', () => {
    const wait = new ShortWait(true)
    for (let round = 0; round < 3; round++) {
      wait.begin()
      expect(looks).toHaveLength(1)
      nowMs += AWAKE_MS / 2
      wait.end()
      sleep()
    }
  })

  it('is slept through for a while when the answer came late', () => {
    const wait = new ShortWait(true)
    wait.begin()
    sleep()
    nowMs += 1
    wait.end()
    for (let round = 0; round < SKIPPED_AFTER_LONG; round++) {
      wait.begin()
      expect(looks).toHaveLength(0)
      wait.end()
    }
    wait.begin()
    expect(looks).toHaveLength(1)
  })

  it('is always slept through where there is one core only', () => {
    new ShortWait(false).begin()
    expect(looks).toHaveLength(0)
  })
})
