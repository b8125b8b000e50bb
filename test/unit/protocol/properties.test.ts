import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Info, Opt, Rep } from '../../../src/protocol/constants.ts'
import { ProtocolError } from '../../../src/protocol/errors.ts'
import { decodeExportNameReply, decodeGreeting } from '../../../src/protocol/handshake.ts'
import { decodeInfoReply, decodeInfoRequest, encodeInfoRequest } from '../../../src/protocol/info.ts'
import {
  decodeOptionHeader,
  decodeOptionReplyHeader,
  decodeServerEntry,
  encodeOption,
  encodeOptionReply,
  encodeServerEntry,
} from '../../../src/protocol/option.ts'
import { decodeRequest } from '../../../src/protocol/request.ts'
import { decodeSimpleReply } from '../../../src/protocol/simple-reply.ts'
import { decodeString, printable } from '../../../src/protocol/strings.ts'
import { decodeChunk } from '../../../src/protocol/structured-reply.ts'

/** Whether `decode` ends in a value or in a ProtocolError. Anything else it throws is thrown on. */
function endsInOrder(decode: (bytes: Buffer) => unknown, bytes: Uint8Array): boolean {
  try {
    return decode(Buffer.from(bytes)) !== undefined
  } catch (error) {
    if (error instanceof ProtocolError) return true
    throw error
  }
}

/** Bytes with a magic, or without one, in front of chaos. */
const afterMagic = (magic: string, rest: number): fc.Arbitrary<Buffer> =>
  fc
    .tuple(fc.boolean(), fc.uint8Array({ minLength: rest + 8, maxLength: rest + 8 }))
    .map(([right, bytes]) =>
      right
        ? Buffer.concat([Buffer.from(magic, 'hex'), bytes]).subarray(0, rest + magic.length / 2)
        : Buffer.from(bytes),
    )

const name = fc
  .string({ unit: 'grapheme', maxLength: 100 })
  .filter(text => !text.includes('\0') && Buffer.from(text).toString() === text)

describe('any bytes', () => {
  it('as a fixed head end in a value or a ProtocolError', () => {
    const heads = [
      { magic: '4e42444d41474943', rest: 10, decode: decodeGreeting },
      { magic: '', rest: 10, decode: decodeExportNameReply },
      { magic: '49484156454f5054', rest: 8, decode: decodeOptionHeader },
      { magic: '0003e889045565a9', rest: 12, decode: decodeOptionReplyHeader },
      { magic: '25609513', rest: 24, decode: decodeRequest },
      { magic: '67446698', rest: 12, decode: decodeSimpleReply },
      { magic: '668e33ef', rest: 16, decode: decodeChunk },
    ]
    for (const { magic, rest, decode } of heads) {
      fc.assert(fc.property(afterMagic(magic, rest), bytes => endsInOrder(decode, bytes)))
    }
  })

  it('of any length as data end in a value, a refusal or a ProtocolError', () => {
    const small = fc.tuple(fc.nat(12), fc.uint8Array({ maxLength: 40 })).map(([length, rest]) => {
      const head = Buffer.alloc(4)
      head.writeUInt32BE(length)
      return Buffer.concat([head, rest])
    })
    for (const bytes of [fc.uint8Array({ maxLength: 5000, size: 'max' }), small]) {
      fc.assert(fc.property(bytes, data => endsInOrder(decodeInfoRequest, data)))
      fc.assert(fc.property(bytes, data => endsInOrder(decodeInfoReply, data)))
      fc.assert(fc.property(bytes, data => endsInOrder(decodeServerEntry, data)))
    }
  })

  it('as a string are one that gives the same bytes back, or none', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), bytes => {
        const text = decodeString(bytes)
        if (text !== undefined) expect(Buffer.from(text)).toEqual(Buffer.from(bytes))
      }),
    )
  })

  it('as text are printable without a control character', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary' }), text => {
        expect(printable(text)).not.toMatch(/[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/u)
      }),
    )
  })
})

describe('what we encode', () => {
  it('is what is decoded', () => {
    const infos = fc.array(fc.nat(0xffff), { maxLength: 20 })
    fc.assert(
      fc.property(name, infos, (text, asked) => {
        const request = { name: text, infos: asked }
        expect(decodeInfoRequest(encodeInfoRequest(request))).toEqual(request)
      }),
    )
    fc.assert(
      fc.property(name, name, (text, description) => {
        expect(decodeServerEntry(encodeServerEntry(text, description))).toEqual({ name: text, description })
      }),
    )
    fc.assert(
      fc.property(fc.uint8Array(), data => {
        const lengthBytes = data.length
        expect(decodeOptionHeader(encodeOption(Opt.GO, data))).toEqual({ option: Opt.GO, lengthBytes })
        const reply = decodeOptionReplyHeader(encodeOptionReply(Info.NAME, Rep.ERR_SHUTDOWN, data))
        expect(reply).toEqual({ option: Info.NAME, reply: Rep.ERR_SHUTDOWN, lengthBytes })
      }),
    )
  })
})
