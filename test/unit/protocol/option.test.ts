import { describe, expect, it } from 'vitest'
import { Opt, Rep } from '../../../src/protocol/constants.ts'
import {
  decodeOptionHeader,
  decodeOptionReplyHeader,
  decodeServerEntry,
  encodeOption,
  encodeOptionReply,
  encodeServerEntry,
  isErrorReply,
} from '../../../src/protocol/option.ts'
import { hex } from '../../support/bytes.ts'

describe('an option', () => {
  it('is IHAVEOPT, number, length and data', () => {
    expect(encodeOption(Opt.STARTTLS)).toEqual(hex('49484156454f5054 00000005 00000000'))
    expect(encodeOption(Opt.EXPORT_NAME, Buffer.from('disk'))).toEqual(
      hex('49484156454f5054 00000001 00000004 6469736b'),
    )
  })

  it('keeps numbers and lengths that nobody knows, to the last bit', () => {
    expect(decodeOptionHeader(hex('49484156454f5054 ffffffff ffffffff'))).toEqual({
      option: 0xffff_ffff,
      lengthBytes: 0xffff_ffff,
    })
    expect(decodeOptionHeader(hex('49484156454f5054 00000007 0000000a'))).toEqual({ option: 7, lengthBytes: 10 })
  })

  it('is refused without its magic', () => {
    expect(() => decodeOptionHeader(hex('49484156454f5055 00000005 00000000'))).toThrow(
      expect.objectContaining({ code: 'BAD_MAGIC' }),
    )
  })
})

describe('an option reply', () => {
  it('is its magic, the option, the type, length and data', () => {
    expect(encodeOptionReply(Opt.ABORT, Rep.ACK)).toEqual(hex('0003e889045565a9 00000002 00000001 00000000'))
    expect(encodeOptionReply(0xffff_ffff, Rep.ERR_UNSUP, Buffer.from('no'))).toEqual(
      hex('0003e889045565a9 ffffffff 80000001 00000002 6e6f'),
    )
  })

  it('is read back from bytes a server wrote', () => {
    expect(decodeOptionReplyHeader(hex('0003e889045565a9 00000007 80000006 ffffffff'))).toEqual({
      option: 7,
      reply: 0x8000_0006,
      lengthBytes: 0xffff_ffff,
    })
    expect(() => decodeOptionReplyHeader(hex('0003e889045565aa 00000007 00000001 00000000'))).toThrow(
      expect.objectContaining({ code: 'BAD_MAGIC' }),
    )
  })

  it('is an error when bit 31 is set, known or not', () => {
    expect([1, 2, 3, 4, 0x7fff_ffff, 0].map(isErrorReply)).toEqual(Array(6).fill(false))
    expect([0x8000_0000, 0x8000_0001, 0x8000_000a, 0xffff_ffff].map(isErrorReply)).toEqual(Array(4).fill(true))
  })
})

describe('an entry of LIST', () => {
  it('is the length of the name in bytes, the name, and the description', () => {
    expect(encodeServerEntry('disk', 'the lab')).toEqual(hex('00000004 6469736b 746865206c6162'))
    expect(encodeServerEntry('ä')).toEqual(hex('00000002 c3a4'))
    expect(encodeServerEntry('')).toEqual(hex('00000000'))
  })

  it('is read with and without a description', () => {
    expect(decodeServerEntry(hex('00000004 6469736b 746865206c6162'))).toEqual({
      name: 'disk',
      description: 'the lab',
    })
    expect(decodeServerEntry(hex('00000000'))).toEqual({ name: '', description: '' })
  })

  it('is refused when the name does not fit, also with the length 0xffffffff', () => {
    for (const bytes of ['', '000000', '00000001', '00000005 6469736b', 'ffffffff 6469736b']) {
      expect(() => decodeServerEntry(hex(bytes))).toThrow(expect.objectContaining({ code: 'BAD_LENGTH' }))
    }
  })
})
