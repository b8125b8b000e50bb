import { describe, expect, it } from 'vitest'
import { RightsClock } from '../../../src/platform/rights-clock.ts'

const HOUR_MS = 3_600_000
const START_MS = Date.UTC(2026, 0, 1)

/** A clock of the system that the test sets, and time that passes on it. */
function system() {
  let [wall, monotonic] = [START_MS, 17]
  return {
    clock: new RightsClock(
      () => wall,
      () => monotonic,
    ),
    pass: (ms: number) => {
      wall += ms
      monotonic += ms
    },
    set: (ms: number) => {
      wall += ms
    },
  }
}

describe('the time that rights end by', () => {
  it('is the time of the system', () => {
    const { clock, pass } = system()
    expect(clock.now()).toBe(START_MS)
    pass(HOUR_MS)
    expect([clock.now(), clock.behindMs()]).toEqual([START_MS + HOUR_MS, 0])
  })

  it('goes along when the system is set forward, and when it has slept', () => {
    const { clock, set } = system()
    set(5 * HOUR_MS)
    expect([clock.now(), clock.behindMs()]).toEqual([START_MS + 5 * HOUR_MS, 0])
  })

  it('goes on from where it was when the system is set back', () => {
    const { clock, pass, set } = system()
    pass(HOUR_MS)
    set(-3 * HOUR_MS)
    expect([clock.now(), clock.behindMs()]).toEqual([START_MS + HOUR_MS, 3 * HOUR_MS])
    pass(HOUR_MS)
    expect(clock.now()).toBe(START_MS + 2 * HOUR_MS)
    set(4 * HOUR_MS)
    expect([clock.now(), clock.behindMs()]).toEqual([START_MS + 3 * HOUR_MS, 0])
  })

  it('keeps what it has once said, should the jump be taken back', () => {
    const { clock, set } = system()
    set(HOUR_MS)
    clock.now()
    set(-HOUR_MS)
    expect(clock.behindMs()).toBe(HOUR_MS)
  })

  it('follows the system again when somebody says so', () => {
    const { clock, set } = system()
    set(-HOUR_MS)
    clock.follow()
    expect([clock.now(), clock.behindMs()]).toEqual([START_MS - HOUR_MS, 0])
  })
})
