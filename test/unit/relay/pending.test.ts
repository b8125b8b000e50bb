import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Pending } from '../../../src/relay/pending.ts'
import { hex } from '../../support/bytes.ts'
import { READ, request, WRITE } from './messages.ts'

/** Adds a READ and returns its head, in which the client's cookie has been replaced by ours. */
function add(pending: Pending, cookie: bigint, length = 512, offset = 0n): Buffer {
  const head = request({ type: READ, cookie, offset, length })
  pending.add(head, 8, 16, READ, length, length)
  return head
}

describe('Pending', () => {
  it('finds a request by the cookie it went out with and gives the client’s back, bit for bit', () => {
    const pending = new Pending()
    for (const cookie of [0n, 1n, 0xffff_ffff_ffff_ffffn, 0x8000_0000_0000_0000n, 0x0000_0001_ffff_fffen]) {
      const head = add(pending, cookie)
      const slot = pending.find(head, 8)
      expect(slot).toBeGreaterThanOrEqual(0)
      pending.restoreCookie(slot, head, 8)
      expect(head.readBigUInt64BE(8)).toBe(cookie)
    }
  })

  it('changes nothing of a head but the cookie', () => {
    const head = add(new Pending(), 0xffff_ffff_ffff_ffffn, 0x1000, 0x1234_5678_9abc_def0n)
    expect(head.subarray(0, 8)).toEqual(hex('25609513 0000 0000'))
    expect(head.subarray(16)).toEqual(hex('123456789abcdef0 00001000'))
  })

  it('gives requests under the same cookie of the client different cookies of ours', () => {
    const pending = new Pending()
    const ours = Array.from({ length: 100 }, () => add(pending, 7n).readBigUInt64BE(8))
    expect(new Set(ours).size).toBe(100)
  })

  it('grows beyond its first 16 slots and keeps all that it holds', () => {
    const pending = new Pending()
    const heads = Array.from({ length: 1000 }, (_, at) => add(pending, BigInt(at) << 40n, at + 1, BigInt(at) << 33n))
    expect(pending.count).toBe(1000)
    heads.forEach((head, at) => {
      const slot = pending.find(head, 8)
      expect(pending.lengthOf(slot)).toBe(at + 1)
      const copy = Buffer.alloc(16)
      pending.restoreCookie(slot, copy, 0)
      pending.writeOffset(slot, copy, 8)
      expect(copy.readBigUInt64BE(0)).toBe(BigInt(at) << 40n)
      expect(copy.readBigUInt64BE(8)).toBe(BigInt(at) << 33n)
    })
  })

  it('knows no cookie that it has not given out, and none of a request that is over', () => {
    const pending = new Pending()
    const head = add(pending, 1n)
    for (const bytes of ['0000000000000000', 'ffffffffffffffff', '00000001ffffffff', '00000001 00000010']) {
      expect(pending.find(hex(bytes), 0)).toBe(-1)
    }
    pending.remove(pending.find(head, 8))
    expect(pending.find(head, 8)).toBe(-1)
  })

  it('does not take the cookie of a request that is over for its successor in the same slot', () => {
    const pending = new Pending()
    const first = add(pending, 1n)
    pending.remove(pending.find(first, 8))
    const second = add(pending, 2n)
    expect(pending.find(first, 8)).toBe(-1)
    expect(pending.find(second, 8)).toBeGreaterThanOrEqual(0)
  })

  it('forgets that the request before in the same slot had failed', () => {
    const pending = new Pending()
    const first = pending.find(add(pending, 1n), 8)
    pending.markFailed(first)
    expect(pending.hasFailed(first)).toBe(true)
    pending.remove(first)
    expect(pending.hasFailed(pending.find(add(pending, 2n), 8))).toBe(false)
  })

  it('counts the bytes that READs still wait for', () => {
    const pending = new Pending()
    const slot = pending.find(add(pending, 1n, 1000), 8)
    add(pending, 2n, 24)
    pending.add(request({ type: WRITE, length: 4096 }), 8, 16, WRITE, 4096, 0)
    expect(pending.readBytes).toBe(1024)
    pending.deliver(slot, 0, 400)
    expect([pending.readBytes, pending.missingOf(slot)]).toEqual([624, 600])
    pending.remove(slot)
    expect([pending.readBytes, pending.count]).toEqual([24, 2])
  })

  it('tells how far an offset lies behind a request’s start, across 32 bits and before it', () => {
    const pending = new Pending()
    const slot = pending.find(add(pending, 1n, 512, 0x1_ffff_fff0n), 8)
    const distance = (offset: string): number => pending.distanceTo(slot, hex(offset), 0)
    expect(distance('00000001fffffff0')).toBe(0)
    expect(distance('0000000200000000')).toBe(16)
    expect(distance('00000001ffffffef')).toBe(-1)
    expect(distance('0000000000000000')).toBe(-0x1_ffff_fff0)
    expect(distance('ffffffffffffffff')).toBeGreaterThan(2 ** 53)
  })

  it('holds exactly the requests that a plain list holds, whatever is added and removed', () => {
    fc.assert(
      fc.property(fc.array(fc.option(fc.nat(), { nil: undefined }), { maxLength: 300 }), steps => {
        const pending = new Pending()
        const list: { head: Buffer; cookie: bigint }[] = []
        let next = 0n
        for (const step of steps) {
          if (step === undefined || list.length === 0) {
            list.push({ head: add(pending, ++next, 8), cookie: next })
            continue
          }
          const [over] = list.splice(step % list.length, 1)
          if (over !== undefined) pending.remove(pending.find(over.head, 8))
        }
        expect([pending.count, pending.readBytes]).toEqual([list.length, 8 * list.length])
        for (const { head, cookie } of list) {
          pending.restoreCookie(pending.find(head, 8), head, 8)
          expect(head.readBigUInt64BE(8)).toBe(cookie)
        }
      }),
    )
  })
})
