import { describe, expect, it } from 'vitest'
import {
  decodeExportNameReply,
  decodeGreeting,
  encodeClientFlags,
  encodeExportNameReply,
  encodeGreeting,
} from '../../../src/protocol/handshake.ts'
import { hex } from '../../support/bytes.ts'

describe('the greeting', () => {
  it('is NBDMAGIC, IHAVEOPT and the handshake flags', () => {
    expect(encodeGreeting(3)).toEqual(hex('4e42444d41474943 49484156454f5054 0003'))
    expect(encodeGreeting(0xfffe)).toEqual(hex('4e42444d41474943 49484156454f5054 fffe'))
  })

  it('gives its handshake flags, unknown ones too', () => {
    expect(decodeGreeting(hex('4e42444d41474943 49484156454f5054 0003'))).toBe(3)
    expect(decodeGreeting(hex('4e42444d41474943 49484156454f5054 8001'))).toBe(0x8001)
  })

  it('is refused from what is no NBD server, oldstyle and neither, each with its reason', () => {
    const reason = (bytes: Buffer): unknown => {
      try {
        return decodeGreeting(bytes)
      } catch (error) {
        return error
      }
    }
    const ssh = Buffer.from('SSH-2.0-OpenSSH_9.2')
    expect(reason(ssh)).toMatchObject({ code: 'BAD_MAGIC', message: 'not an NBD server' })
    const oldstyle = hex('4e42444d41474943 0000420281861253 0000')
    expect(reason(oldstyle)).toMatchObject({ code: 'BAD_MAGIC', message: expect.stringContaining('oldstyle') })
    const neither = hex('4e42444d41474943 49484156454f5055 0000')
    expect(reason(neither)).toMatchObject({ code: 'BAD_MAGIC', message: expect.stringContaining('neither') })
  })

  it('is never made up from too few bytes', () => {
    const whole = hex('4e42444d41474943 49484156454f5054 0003')
    for (let size = 0; size < whole.length; size++) expect(() => decodeGreeting(whole.subarray(0, size))).toThrow()
  })
})

describe('client flags', () => {
  it('are a u32', () => {
    expect(encodeClientFlags(3)).toEqual(hex('00000003'))
    expect(encodeClientFlags(0x80000001)).toEqual(hex('80000001'))
  })
})

describe('the answer to EXPORT_NAME', () => {
  it('is size and flags, with 124 zeroes or without', () => {
    const short = hex('0000000100000002 0141')
    expect(encodeExportNameReply(0x1_0000_0002n, 0x141, false)).toEqual(short)
    expect(encodeExportNameReply(0x1_0000_0002n, 0x141, true)).toEqual(Buffer.concat([short, Buffer.alloc(124)]))
  })

  it('carries sizes up to the last bit of a u64', () => {
    expect(decodeExportNameReply(hex('ffffffffffffffff 8003'))).toEqual({
      sizeBytes: 0xffff_ffff_ffff_ffffn,
      flags: 0x8003,
    })
    expect(decodeExportNameReply(hex('0000000000000000 0000', '00'.repeat(124)))).toEqual({ sizeBytes: 0n, flags: 0 })
  })
})
