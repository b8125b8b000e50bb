// After an upgrade another process lets sessions in: what is left here leaves LUKS headers as they are.
import { describe, expect, it } from 'vitest'
import type { MainCalls } from '../../../src/gateway/calls.ts'
import { Link } from '../../../src/gateway/link.ts'
import { LuksGuards } from '../../../src/gateway/luks-check.ts'
import { remoteGuards } from '../../../src/gateway/remote-guards.ts'
import { LuksGuard } from '../../../src/sharing/luks-guard.ts'

/** LUKS1: magic and version, enough to be one by its first bytes; whether it is whole does not matter to who is frozen. */
const HEADER = Buffer.concat([Buffer.from('4c554b53babe0001', 'hex'), Buffer.alloc(1016)])

describe('guards of a gateway that was handed over', () => {
  it('admit no write of a header, of sessions that were there and of later ones', () => {
    const guards = new LuksGuards()
    const before = guards.take('disk', new LuksGuard(0, HEADER))
    // A write of what is there already changes nothing, and is admitted by a guard that judges.
    guards.freeze()
    const after = guards.take('other', new LuksGuard(0, HEADER))
    for (const guard of [before, after]) {
      expect(guard.touches(0, 8)).toBe(true)
      expect(guard.touches(4096, 8)).toBe(false)
      expect(guard.admits(0, HEADER.subarray(0, 8))).toBe(false)
    }
  })

  it('do so in workers, without asking for the lock', () => {
    const told: unknown[] = []
    const link = new Link<MainCalls>({ send: batch => void told.push(...batch) }, {})
    const frozen = { isOn: false }
    const guard = remoteGuards({ link, conn: 1, frozen }, new Map()).take('disk', new LuksGuard(0, HEADER))
    expect(guard.isReady?.()).toBe(false)
    frozen.isOn = true
    expect(guard.isReady?.()).toBe(true)
    expect(guard.admits(0, HEADER.subarray(0, 8))).toBe(false)
  })
})
