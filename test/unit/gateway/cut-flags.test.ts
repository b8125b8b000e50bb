import { describe, expect, it } from 'vitest'
import { cutFlags } from '../../../src/gateway/open-export.ts'

// Bits by hand from proto.md, "Transmission flags": 0 HAS_FLAGS, 1 READ_ONLY, 2 FLUSH, 3 FUA, 4 ROTATIONAL, 5 TRIM,
// 6 WRITE_ZEROES, 7 DF, 8 CAN_MULTI_CONN, 9 RESIZE, 10 CACHE, 11 FAST_ZERO, 12 BLOCK_STATUS_PAYLOAD.
const PLAIN = { client: false, upstream: false }
const LIFTED = { client: true, upstream: false }
const BOTH = { client: true, upstream: true }

describe('the flags that a visitor is told', () => {
  it.each([
    { upstream: 0x0141, rights: 'write', structured: PLAIN, told: 0x0141, what: "nbd-server's, for a writer" },
    { upstream: 0x0141, rights: 'read', structured: PLAIN, told: 0x0103, what: "nbd-server's, for a reader" },
    {
      upstream: 0x0143,
      rights: 'write',
      structured: PLAIN,
      told: 0x0143,
      what: 'an upstream that is read-only itself',
    },
    { upstream: 0x0d6d, rights: 'write', structured: PLAIN, told: 0x0d6d, what: 'all that writes, for a writer' },
    { upstream: 0x0d6d, rights: 'read', structured: PLAIN, told: 0x050f, what: 'nothing that writes, for a reader' },
    { upstream: 0x0000, rights: 'write', structured: PLAIN, told: 0x0001, what: 'HAS_FLAGS, which is always set' },
    { upstream: 0x0801, rights: 'write', structured: PLAIN, told: 0x0001, what: 'no FAST_ZERO without WRITE_ZEROES' },
    { upstream: 0xf201, rights: 'write', structured: BOTH, told: 0x0001, what: 'nothing that the relay does not know' },
    { upstream: 0x0011, rights: 'read', structured: PLAIN, told: 0x0013, what: 'that the disk rotates' },
  ] as const)('$what: $upstream becomes $told', ({ upstream, rights, structured, told }) => {
    expect(cutFlags(upstream, rights, structured)).toBe(told)
  })

  it('have no DF for a client without structured replies, whatever the upstream says', () => {
    expect(cutFlags(0x0081, 'write', { client: false, upstream: true })).toBe(0x0001)
  })

  it("have the upstream's DF where it sends the chunks itself", () => {
    expect(cutFlags(0x0081, 'write', BOTH)).toBe(0x0081)
    expect(cutFlags(0x0001, 'write', BOTH)).toBe(0x0001)
  })

  it('have DF where the gateway makes the chunks, one for each reply', () => {
    expect(cutFlags(0x0001, 'write', LIFTED)).toBe(0x0081)
  })
})
