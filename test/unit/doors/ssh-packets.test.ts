import { describe, expect, test } from 'vitest'
import { PacketMemory } from '../../../src/doors/ssh-packets.ts'

describe('memory for packets', () => {
  test('lays them out as RFC 5647 wants it: blocks of 16, four bytes of padding or more, room for the tag', () => {
    const { allocPacket } = new PacketMemory(() => true)
    for (const payload of [0, 1, 10, 11, 12, 1000, 32_777, 300_000]) {
      const packet = allocPacket(payload)
      const [length, padding] = [packet.readUInt32BE(0), packet[4] ?? 0]
      expect(packet.length).toBe(4 + length + 16)
      expect(length % 16).toBe(0)
      expect(padding).toBe(length - 1 - payload)
      expect(padding).toBeGreaterThanOrEqual(4)
      expect(padding).toBeLessThan(20)
    }
  })

  test('is used again only when all that was allocated has left', () => {
    let haveLeft = false
    const { allocPacket } = new PacketMemory(() => haveLeft)
    const packets = Array.from({ length: 40 }, (_, i) => allocPacket(20_000).fill(i, 5))
    for (const [i, packet] of packets.entries()) expect(packet.subarray(5).every(byte => byte === i)).toBe(true)
    haveLeft = true
    const [first, again] = [allocPacket(20_000), allocPacket(20_000)]
    // Both lie where the last slab begins: nothing waits between the two.
    expect(again.byteOffset).toBe(first.byteOffset)
    expect(again.buffer).toBe(first.buffer)
  })

  test('is not shared by two connections as long as one of them uses it', () => {
    const [busy, other] = [new PacketMemory(() => false), new PacketMemory(() => true)]
    const mine = Array.from({ length: 30 }, () => busy.allocPacket(30_000).fill(1, 5))
    for (let i = 0; i < 100; i++) other.allocPacket(30_000).fill(2, 5)
    for (const packet of mine) expect(packet.subarray(5).every(byte => byte === 1)).toBe(true)
  })

  test('leaves a cipher alone that lays out its packets otherwise', () => {
    const own = (bytes: number): Buffer => Buffer.alloc(bytes + 24)
    const cipher = { allocPacket: own }
    new PacketMemory(() => true).serve(cipher)
    expect(cipher.allocPacket).toBe(own)
  })
})
