import { describe, expect, it } from 'vitest'
import { Limits } from '../../../src/gateway/limits.ts'

describe('the limits of the gateway', () => {
  it('turn away who comes when all sessions are taken, and let the next one in after one has left', () => {
    const limits = new Limits({ sessions: 2, sessionsPerAddress: 9 })
    expect(limits.admit('192.0.2.1')).toBeUndefined()
    expect(limits.admit('192.0.2.2')).toBeUndefined()
    expect(limits.admit('192.0.2.3')).toBe('sessions')
    limits.leave('192.0.2.1', false)
    expect(limits.admit('192.0.2.3')).toBeUndefined()
    expect(limits.count).toBe(2)
  })

  it('count each address on its own', () => {
    const limits = new Limits({ sessions: 9, sessionsPerAddress: 1 })
    expect(limits.admit('192.0.2.1')).toBeUndefined()
    expect(limits.admit('192.0.2.1')).toBe('sessions-per-address')
    expect(limits.admit('192.0.2.2')).toBeUndefined()
  })

  it('do not count whom they turn away', () => {
    const limits = new Limits({ sessions: 9, sessionsPerAddress: 1 })
    limits.admit('192.0.2.1')
    limits.admit('192.0.2.1')
    expect(limits.count).toBe(1)
    limits.leave('192.0.2.1', false)
    expect(limits.admit('192.0.2.1')).toBeUndefined()
  })

  it('charge an address nothing when it is the whole gateway that is full', () => {
    const limits = new Limits({ sessions: 1, sessionsPerAddress: 1 })
    limits.admit('192.0.2.1')
    limits.admit('192.0.2.2')
    limits.leave('192.0.2.1', false)
    expect(limits.admit('192.0.2.2')).toBeUndefined()
  })

  it('free one place of an address for each that leaves', () => {
    const limits = new Limits({ sessions: 9, sessionsPerAddress: 2 })
    limits.admit('192.0.2.1')
    limits.admit('192.0.2.1')
    limits.leave('192.0.2.1', false)
    expect(limits.admit('192.0.2.1')).toBeUndefined()
    expect(limits.admit('192.0.2.1')).toBe('sessions-per-address')
  })

  it('hold visitors without an address to the total only', () => {
    const limits = new Limits({ sessions: 2, sessionsPerAddress: 1 })
    expect(limits.admit(undefined)).toBeUndefined()
    expect(limits.admit(undefined)).toBeUndefined()
    expect(limits.admit(undefined)).toBe('sessions')
    limits.leave(undefined, false)
    expect(limits.admit(undefined)).toBeUndefined()
  })

  it('hold a door to its own number, whoever comes, and leave the other doors alone', () => {
    const limits = new Limits({ sessions: 9, sessionsPerAddress: 9, sessionsByDoor: new Map([['/a', 1]]) })
    expect(limits.admit(undefined, '/a')).toBeUndefined()
    expect(limits.admit('192.0.2.1', '/a')).toBe('sessions-per-door')
    expect(limits.admit('192.0.2.1', '/b')).toBeUndefined()
    expect(limits.admit('192.0.2.1', '/b')).toBeUndefined()
    expect(limits.list()).toEqual([
      [undefined, 1, '/a'],
      ['192.0.2.1', 2, '/b'],
    ])
    limits.leave(undefined, false, '/a')
    expect(limits.admit('192.0.2.1', '/a')).toBeUndefined()
  })

  it('count those of a door that were there before', () => {
    const limits = new Limits({ sessions: 9, sessionsPerAddress: 9, sessionsByDoor: new Map([['/a', 3]]) })
    limits.restore([['192.0.2.1', 2, '/a']], 2)
    expect(limits.admit('192.0.2.2', '/a')).toBeUndefined()
    expect(limits.admit('192.0.2.2', '/a')).toBe('sessions-per-door')
  })

  describe('of half-open connections', () => {
    const max = { sessions: 100, sessionsPerAddress: 100, maxStartups: { start: 4, rate: 0.5, full: 8 } }
    const crowd = (limits: Limits, count: number) => {
      for (let each = 0; each < count; each++) limits.admit(`192.0.2.${each}`)
    }

    it('turn away some from the first number on, the more the more there are, and all from the last one on', () => {
      let dice = 0
      const limits = new Limits(max, () => dice)
      crowd(limits, 3)
      expect(limits.admit('192.0.2.9')).toBeUndefined()
      expect(limits.admit('192.0.2.9')).toBe('max-startups')
      dice = 0.49
      expect(limits.admit('192.0.2.9')).toBe('max-startups')
      dice = 0.51
      expect(limits.admit('192.0.2.9')).toBeUndefined()
      // Half, and a quarter of the other half, at one of four steps from 4 to 8.
      expect(limits.admit('192.0.2.9')).toBe('max-startups')
      dice = 0.63
      expect(limits.admit('192.0.2.9')).toBeUndefined()
      dice = 0.99
      expect(limits.admit('192.0.2.9')).toBeUndefined()
      expect(limits.admit('192.0.2.9')).toBeUndefined()
      expect(limits.halfOpen).toBe(8)
      dice = 1
      expect(limits.admit('192.0.2.9')).toBe('max-startups')
    })

    it('do not count who is in, nor who has left', () => {
      const limits = new Limits(max, () => 0)
      crowd(limits, 4)
      expect(limits.admit('192.0.2.9')).toBe('max-startups')
      limits.entered()
      expect(limits.admit('192.0.2.9')).toBeUndefined()
      limits.leave('192.0.2.0', true)
      expect(limits.admit('192.0.2.9')).toBe('max-startups')
      limits.leave('192.0.2.1', false)
      expect(limits.admit('192.0.2.9')).toBeUndefined()
      expect({ count: limits.count, halfOpen: limits.halfOpen }).toEqual({ count: 4, halfOpen: 4 })
    })
  })

  it('turn away an address that is being penalised, and no other', () => {
    const penalties = {
      costMs: { authfail: 60_000, 'grace-exceeded': 1, invalid: 1 },
      minMs: 1,
      maxMs: 60_000,
      exempt: [],
    }
    const limits = new Limits({ sessions: 9, sessionsPerAddress: 9, penalties })
    limits.charge('192.0.2.1', 'authfail')
    limits.charge(undefined, 'authfail')
    expect(limits.admit('192.0.2.1')).toBe('penalty')
    expect(limits.admit('192.0.2.2')).toBeUndefined()
    expect(limits.admit(undefined)).toBeUndefined()
    limits.replace({ sessions: 9, sessionsPerAddress: 9 })
    expect(limits.admit('192.0.2.1')).toBeUndefined()
  })
})
