import { describe, expect, it } from 'vitest'
import { Cmd, Err, ReplyFlag, ReplyType } from '../../../src/protocol/constants.ts'
import { decodeRequest, encodeRequest } from '../../../src/protocol/request.ts'
import { decodeSimpleReply, encodeSimpleReply } from '../../../src/protocol/simple-reply.ts'
import { decodeChunk, encodeChunk, encodeErrorChunk } from '../../../src/protocol/structured-reply.ts'
import { hex } from '../../support/bytes.ts'

const REQUEST = '25609513 0001 0001 fedcba9876543210 8000000000000001 fffffe00'
const SIMPLE = '67446698 00000016 ffffffffffffffff'
const CHUNK = '668e33ef 0001 8001 0123456789abcdef 0000000a'

describe('a request', () => {
  const fields = {
    flags: 1,
    type: Cmd.WRITE,
    cookie: 0xfedc_ba98_7654_3210n,
    offset: 0x8000_0000_0000_0001n,
    length: 0xffff_fe00,
  }

  it('is the 28 bytes of the spec, both ways', () => {
    expect(encodeRequest(fields)).toEqual(hex(REQUEST))
    expect(decodeRequest(hex(REQUEST))).toEqual(fields)
  })

  it('keeps types and flags that nobody knows', () => {
    expect(decodeRequest(hex('25609513 ffff fffe 0000000000000000 0000000000000000 00000000'))).toMatchObject({
      flags: 0xffff,
      type: 0xfffe,
    })
  })

  it('is refused with another magic, the extended one included', () => {
    for (const magic of ['25609514', '00000000', '21e41c71', '67446698']) {
      expect(() => decodeRequest(hex(magic, REQUEST.slice(8)))).toThrow(expect.objectContaining({ code: 'BAD_MAGIC' }))
    }
  })
})

describe('a simple reply', () => {
  it('is the 16 bytes of the spec, both ways', () => {
    expect(encodeSimpleReply({ error: Err.INVAL, cookie: 0xffff_ffff_ffff_ffffn })).toEqual(hex(SIMPLE))
    expect(decodeSimpleReply(hex(SIMPLE))).toEqual({ error: 22, cookie: 0xffff_ffff_ffff_ffffn })
  })

  it('is refused with another magic', () => {
    expect(() => decodeSimpleReply(hex('668e33ef', SIMPLE.slice(8)))).toThrow(
      expect.objectContaining({ code: 'BAD_MAGIC' }),
    )
  })
})

describe('a structured reply chunk', () => {
  it('is the 20 bytes of the spec, both ways', () => {
    const chunk = {
      flags: ReplyFlag.DONE,
      type: ReplyType.ERROR,
      cookie: 0x0123_4567_89ab_cdefn,
      lengthBytes: 10,
    }
    expect(encodeChunk(chunk)).toEqual(hex(CHUNK))
    expect(decodeChunk(hex(CHUNK))).toEqual(chunk)
  })

  it('is refused with another magic', () => {
    expect(() => decodeChunk(hex('67446698', CHUNK.slice(8)))).toThrow(expect.objectContaining({ code: 'BAD_MAGIC' }))
  })

  it('that reports an error ends the reply and carries its message in bytes', () => {
    expect(encodeErrorChunk(5n, Err.NOSPC, 'ä')).toEqual(
      hex('668e33ef 0001 8001 0000000000000005 00000008', '0000001c 0002 c3a4'),
    )
    expect(encodeErrorChunk(5n, Err.PERM, '')).toEqual(
      hex('668e33ef 0001 8001 0000000000000005 00000006', '00000001 0000'),
    )
  })
})

describe('heads that are cut short', () => {
  it('are never read as if they were whole', () => {
    const heads = [
      { bytes: hex(REQUEST), decode: decodeRequest },
      { bytes: hex(SIMPLE), decode: decodeSimpleReply },
      { bytes: hex(CHUNK), decode: decodeChunk },
    ]
    for (const { bytes, decode } of heads) {
      for (let size = 0; size < bytes.length; size++) expect(() => decode(bytes.subarray(0, size))).toThrow()
    }
  })
})
