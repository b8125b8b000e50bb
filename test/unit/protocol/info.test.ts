import { describe, expect, it } from 'vitest'
import {
  decodeInfoReply,
  decodeInfoRequest,
  encodeInfoBlockSize,
  encodeInfoExport,
  encodeInfoRequest,
  encodeInfoText,
} from '../../../src/protocol/info.ts'
import { hex } from '../../support/bytes.ts'

const DISK_ASKS_BLOCK_SIZE = '00000004 6469736b 0001 0003'

describe('data of INFO and GO', () => {
  it('give the name and what is asked for, unknown information types too', () => {
    expect(decodeInfoRequest(hex(DISK_ASKS_BLOCK_SIZE))).toEqual({ name: 'disk', infos: [3] })
    expect(decodeInfoRequest(hex('00000000 0000'))).toEqual({ name: '', infos: [] })
    expect(decodeInfoRequest(hex('00000001 61 0003 0001 ffff 0001'))).toEqual({ name: 'a', infos: [1, 0xffff, 1] })
  })

  it('are written the way the spec has them', () => {
    expect(encodeInfoRequest({ name: 'disk', infos: [3] })).toEqual(hex(DISK_ASKS_BLOCK_SIZE))
    expect(encodeInfoRequest({ name: 'ä', infos: [] })).toEqual(hex('00000002 c3a4 0000'))
  })

  it('are invalid at every length but the right one', () => {
    const whole = hex(DISK_ASKS_BLOCK_SIZE)
    for (let size = 0; size < whole.length; size++) {
      expect(decodeInfoRequest(whole.subarray(0, size))).toBe('invalid')
    }
    for (const more of ['00', '0000', '00000000']) {
      expect(decodeInfoRequest(hex(DISK_ASKS_BLOCK_SIZE, more))).toBe('invalid')
    }
  })

  it('are invalid when the name claims more than is there (CVE-2022-26495, CVE-2022-26496)', () => {
    for (const length of ['00000005', '00000006', '00000007', '7fffffff', '80000000', 'fffffffa', 'ffffffff']) {
      expect(decodeInfoRequest(hex(length, '6469736b 0001 0003'))).toBe('invalid')
    }
  })

  it('are invalid when they claim more information types than are there', () => {
    expect(decodeInfoRequest(hex('00000000 0001'))).toBe('invalid')
    expect(decodeInfoRequest(hex('00000000 ffff 0001'))).toBe('invalid')
  })

  it('may name an export with 4096 bytes, one more is too big', () => {
    expect(decodeInfoRequest(hex('00001000', '61'.repeat(4096), '0000'))).toEqual({ name: 'a'.repeat(4096), infos: [] })
    expect(decodeInfoRequest(hex('00001001', '61'.repeat(4097), '0000'))).toBe('too big')
  })

  it('are invalid with a name that holds NUL or is no UTF-8', () => {
    for (const name of ['00', '61', 'ff', 'c3', 'c080', 'eda080', 'f4908080']) {
      const length = (name.length / 2).toString(16).padStart(8, '0')
      const expected = name === '61' ? { name: 'a', infos: [] } : 'invalid'
      expect(decodeInfoRequest(hex(length, name, '0000'))).toEqual(expected)
    }
    expect(decodeInfoRequest(hex('00000005 6469006b6b 0000'))).toBe('invalid')
  })
})

describe('replies to INFO and GO', () => {
  it('are the bytes of the spec', () => {
    expect(encodeInfoExport({ sizeBytes: 0x7fff_ffff_ffff_ffffn, flags: 0x0ced })).toEqual(
      hex('0000 7fffffffffffffff 0ced'),
    )
    expect(encodeInfoText(1, 'disk')).toEqual(hex('0001 6469736b'))
    expect(encodeInfoText(2, 'ä')).toEqual(hex('0002 c3a4'))
    expect(encodeInfoBlockSize({ minimum: 512, preferred: 4096, maximumPayload: 1 << 25 })).toEqual(
      hex('0003 00000200 00001000 02000000'),
    )
  })

  it('are read, and types that we did not ask for passed over', () => {
    expect(decodeInfoReply(hex('0000 ffffffffffffffff 0141'))).toEqual({
      kind: 'export',
      sizeBytes: 0xffff_ffff_ffff_ffffn,
      flags: 0x141,
    })
    expect(decodeInfoReply(hex('0003 00000001 00001000 ffffffff'))).toEqual({
      kind: 'block size',
      minimum: 1,
      preferred: 4096,
      maximumPayload: 0xffff_ffff,
    })
    expect(decodeInfoReply(hex('0001 6469736b'))).toEqual({ kind: 'text', type: 1, text: 'disk' })
    expect(decodeInfoReply(hex('0002'))).toEqual({ kind: 'text', type: 2, text: '' })
    for (const bytes of ['ffff 00', '0004']) {
      expect(decodeInfoReply(hex(bytes))).toEqual({ kind: 'other' })
    }
  })

  it('are refused when they are too short or too long for their type', () => {
    const bad = ['', '00', '0000', '0000 0000000000000000 00', '0000 0000000000000000 0141 00', '0003']
    for (const bytes of [...bad, '0003 00000001 00001000 020000', '0003 00000001 00001000 02000000 00']) {
      expect(() => decodeInfoReply(hex(bytes))).toThrow(expect.objectContaining({ code: 'BAD_LENGTH' }))
    }
  })

  it('are refused with block sizes that can not be', () => {
    const bad = [
      '00000000 00001000 02000000', // minimum 0
      '00000003 00001000 02000000', // minimum no power of two
      '00020000 00020000 02000000', // minimum above 64 KiB
      '00000200 00000100 02000000', // preferred below minimum
      '00000001 00000003 02000000', // preferred no power of two
      '00000001 00000000 02000000', // preferred 0
      '00000001 00001000 00000fff', // maximum below preferred
      '00000001 00001000 00000000', // maximum 0
      'ffffffff ffffffff ffffffff',
    ]
    for (const sizes of bad) {
      expect(() => decodeInfoReply(hex('0003', sizes))).toThrow(expect.objectContaining({ code: 'BAD_REPLY' }))
    }
  })

  it('accept every power of two as block size, and nothing beside it', () => {
    for (let bit = 0; bit <= 16; bit++) {
      const minimum = (1 << bit).toString(16).padStart(8, '0')
      expect(decodeInfoReply(hex('0003', minimum, '00010000 02000000'))).toMatchObject({ minimum: 1 << bit })
    }
    for (let bit = 16; bit < 32; bit++) {
      const near = (2 ** bit + 1).toString(16).padStart(8, '0')
      expect(() => decodeInfoReply(hex('0003 00000001', near, 'ffffffff'))).toThrow()
    }
  })
})
