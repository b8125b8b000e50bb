import { describe, expect, it } from 'vitest'
import { Limits } from '../../../src/gateway/limits.ts'

describe('the limits of the gateway', () => {
  it('turn away who comes when all sessions are taken, and let the next one in after one has left', () => {
    const limits = new Limits({ sessions: 2, sessionsPerAddress: 9 })
    expect(limits.admit('192.0.2.1')).toBeUndefined()
    expect(limits.admit('192.0.2.2')).toBeUndefined()
    expect(limits.admit('192.0.2.3')).toBe('sessions')
    limits.leave('192.0.2.1')
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
    limits.leave('192.0.2.1')
    expect(limits.admit('192.0.2.1')).toBeUndefined()
  })

  it('charge an address nothing when it is the whole gateway that is full', () => {
    const limits = new Limits({ sessions: 1, sessionsPerAddress: 1 })
    limits.admit('192.0.2.1')
    limits.admit('192.0.2.2')
    limits.leave('192.0.2.1')
    expect(limits.admit('192.0.2.2')).toBeUndefined()
  })

  it('free one place of an address for each that leaves', () => {
    const limits = new Limits({ sessions: 9, sessionsPerAddress: 2 })
    limits.admit('192.0.2.1')
    limits.admit('192.0.2.1')
    limits.leave('192.0.2.1')
    expect(limits.admit('192.0.2.1')).toBeUndefined()
    expect(limits.admit('192.0.2.1')).toBe('sessions-per-address')
  })

  it('hold visitors without an address to the total only', () => {
    const limits = new Limits({ sessions: 2, sessionsPerAddress: 1 })
    expect(limits.admit(undefined)).toBeUndefined()
    expect(limits.admit(undefined)).toBeUndefined()
    expect(limits.admit(undefined)).toBe('sessions')
    limits.leave(undefined)
    expect(limits.admit(undefined)).toBeUndefined()
  })
})
