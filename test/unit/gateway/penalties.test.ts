import { describe, expect, it } from 'vitest'
import { type Cidr, parseCidr } from '../../../src/config/cidr.ts'
import type { PenaltyRules } from '../../../src/config/config.ts'
import { Penalties } from '../../../src/gateway/penalties.ts'

const RULES: PenaltyRules = {
  costMs: { authfail: 5, 'grace-exceeded': 10, invalid: 20 },
  minMs: 15,
  maxMs: 100,
  exempt: [],
}

function penalties(more: Partial<PenaltyRules> = {}) {
  const clock = { now: 1000 }
  return { clock, known: new Penalties({ ...RULES, ...more }, () => clock.now) }
}

function network(text: string): Cidr {
  const cidr = parseCidr(text)
  if (!cidr.ok) throw new Error(cidr.problem)
  return cidr.value
}

describe('penalties', () => {
  it('add up, and keep an address out once they are long enough, until they are over', () => {
    const { clock, known } = penalties()
    known.charge('192.0.2.1', 'authfail')
    known.charge('192.0.2.1', 'authfail')
    expect(known.holds('192.0.2.1')).toBe(false)
    known.charge('192.0.2.1', 'authfail')
    expect(known.holds('192.0.2.1')).toBe(true)
    clock.now += 14
    expect(known.holds('192.0.2.1')).toBe(true)
    clock.now += 1
    expect(known.holds('192.0.2.1')).toBe(false)
  })

  it('run out while they add up', () => {
    const { clock, known } = penalties()
    for (let each = 0; each < 100; each++) {
      known.charge('192.0.2.1', 'authfail')
      clock.now += 5
      expect(known.holds('192.0.2.1')).toBe(false)
    }
  })

  it('are of one address', () => {
    const { known } = penalties()
    known.charge('192.0.2.1', 'invalid')
    expect(known.holds('192.0.2.1')).toBe(true)
    expect(known.holds('192.0.2.2')).toBe(false)
  })

  it('are of a network of 64 bits with IPv6', () => {
    const { known } = penalties()
    known.charge('2001:db8:0:1::1', 'invalid')
    expect(known.holds('2001:db8:0:1:ffff::2')).toBe(true)
    expect(known.holds('2001:db8:0:2::1')).toBe(false)
  })

  it('have an end, however much was charged', () => {
    const { clock, known } = penalties()
    for (let each = 0; each < 50; each++) known.charge('192.0.2.1', 'invalid')
    clock.now += 99
    expect(known.holds('192.0.2.1')).toBe(true)
    clock.now += 1
    expect(known.holds('192.0.2.1')).toBe(false)
  })

  it('are not for networks that are exempt', () => {
    const { known } = penalties({ exempt: [network('192.0.2.0/28')] })
    known.charge('192.0.2.1', 'invalid')
    known.charge('192.0.2.17', 'invalid')
    expect(known.holds('192.0.2.1')).toBe(false)
    expect(known.holds('192.0.2.17')).toBe(true)
  })

  it('are there no more when there are none', () => {
    const { known } = penalties()
    known.charge('192.0.2.1', 'invalid')
    known.replace(undefined)
    expect(known.holds('192.0.2.1')).toBe(false)
    known.replace(RULES)
    expect(known.holds('192.0.2.1')).toBe(false)
  })

  it('go on in another process for as long as they would have, and add up there', () => {
    const old = penalties()
    old.known.charge('192.0.2.9', 'authfail')
    old.clock.now += 10
    old.known.charge('192.0.2.1', 'invalid')
    old.known.charge('2001:db8:0:1::1', 'invalid')
    old.known.charge('192.0.2.2', 'grace-exceeded')
    old.clock.now += 8
    const listed = old.known.list()
    expect(listed.map(([, leftMs, isInForce]) => [leftMs, isInForce])).toEqual([
      [12, true],
      [12, true],
      [2, false],
    ])
    const { clock, known } = penalties()
    known.restore(JSON.parse(JSON.stringify(listed)))
    const held = (): boolean[] => ['192.0.2.1', '2001:db8:0:1::2', '192.0.2.2', '192.0.2.9'].map(of => known.holds(of))
    expect(held()).toEqual([true, true, false, false])
    known.charge('192.0.2.2', 'invalid')
    clock.now += 11
    expect(held()).toEqual([true, true, true, false])
    clock.now += 1
    expect(held()).toEqual([false, false, true, false])
  })

  it('of another process hold by the rules of this one', () => {
    const { known: old } = penalties()
    for (const address of ['192.0.2.1', '192.0.2.17']) for (let n = 0; n < 9; n++) old.charge(address, 'invalid')
    const none = new Penalties(undefined)
    none.restore(old.list())
    expect([none.list(), none.holds('192.0.2.1')]).toEqual([[], false])
    const { clock, known } = penalties({ maxMs: 30, exempt: [network('192.0.2.0/28')] })
    known.restore(old.list())
    expect([known.holds('192.0.2.1'), known.holds('192.0.2.17')]).toEqual([false, true])
    clock.now += 30
    expect(known.holds('192.0.2.17')).toBe(false)
  })

  it('are remembered of 65,536 sources, the latest', () => {
    const { known } = penalties()
    const address = (n: number): string => `10.${n >> 16}.${(n >> 8) & 0xff}.${n & 0xff}`
    for (let n = 0; n <= 65_536; n++) known.charge(address(n), 'invalid')
    expect(known.holds(address(0))).toBe(false)
    expect(known.holds(address(1))).toBe(true)
    expect(known.holds(address(65_536))).toBe(true)
  })
})
