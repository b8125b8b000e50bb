import { describe, expect, it } from 'vitest'
import { CmdFlag, Err, Magic, Opt, Rep, TransmissionFlag } from '../../../src/protocol/constants.ts'
import { ProtocolError } from '../../../src/protocol/errors.ts'
import { flagNames, nameOf } from '../../../src/protocol/names.ts'
import { decodeString, printable } from '../../../src/protocol/strings.ts'
import { hex } from '../../support/bytes.ts'

describe('names for logs', () => {
  it('name what is known and number what is not', () => {
    expect(nameOf(Opt, 3)).toBe('LIST')
    expect(nameOf(Opt, 99)).toBe('unknown(99)')
    expect(nameOf(Rep, 0x8000_0005)).toBe('ERR_TLS_REQD')
    expect(nameOf(Rep, 0xffff_ffff)).toBe('unknown(4294967295)')
    expect(nameOf(Err, 0)).toBe('NONE')
  })

  it('name each flag that is set, and the rest as hexadecimal', () => {
    expect(flagNames(CmdFlag, 0x105)).toBe('FUA|DF|0x100')
    expect(flagNames(TransmissionFlag, 0x0141)).toBe('HAS_FLAGS|SEND_WRITE_ZEROES|CAN_MULTI_CONN')
    expect(flagNames(CmdFlag, 0)).toBe('0')
    expect(flagNames(CmdFlag, 0x8000_0000)).toBe('0x80000000')
    expect(flagNames(CmdFlag, 0xffff_ffff)).toBe('FUA|NO_HOLE|DF|REQ_ONE|FAST_ZERO|PAYLOAD_LEN|0xffffffc0')
  })
})

describe('magic numbers', () => {
  it('spell what the spec says they spell', () => {
    const text = (magic: bigint): string => hex(magic.toString(16).padStart(16, '0')).toString('latin1')
    expect(text(Magic.NBDMAGIC)).toBe('NBDMAGIC')
    expect(text(Magic.IHAVEOPT)).toBe('IHAVEOPT')
  })
})

describe('strings of the protocol', () => {
  it('are UTF-8 of up to 4096 bytes, a byte order mark included', () => {
    expect(decodeString(hex(''))).toBe('')
    expect(decodeString(hex('c3a4 e282ac f09f92be'))).toBe('ä€💾')
    expect(decodeString(hex('efbbbf 61'))).toBe('\ufeffa')
    expect(decodeString(Buffer.alloc(4096, 'a'))).toBe('a'.repeat(4096))
    expect(decodeString(Buffer.alloc(4097, 'a'))).toBeUndefined()
  })

  it('hold no NUL, wherever it stands', () => {
    for (const bytes of ['00', '6100', '0061', '610061']) expect(decodeString(hex(bytes))).toBeUndefined()
  })

  it('hold nothing that is no UTF-8: lone bytes, cut, overlong, surrogates, beyond U+10FFFF', () => {
    for (const bytes of ['80', 'ff', 'c3', 'e282', 'f09f92', 'c0af', 'e08080', 'eda080', 'f4908080', 'f8a1a1a1a1']) {
      expect(decodeString(hex(bytes))).toBeUndefined()
    }
  })
})

describe('printable', () => {
  it('leaves text as it is', () => {
    expect(printable('the lab’s disk, ä€💾')).toBe('the lab’s disk, ä€💾')
  })

  it('shows what would act on a terminal or turn a line around', () => {
    expect(printable('a\u001b[31m\r\nb\u007f\u0085')).toBe('a\\u{1b}[31m\\u{d}\\u{a}b\\u{7f}\\u{85}')
    expect(printable('\u202egpj.exe\u2066\u200b\ufeff')).toBe('\\u{202e}gpj.exe\\u{2066}\\u{200b}\\u{feff}')
    expect(printable('a\u2028b\u2029c')).toBe('a\\u{2028}b\\u{2029}c')
    expect(printable('\ud800')).toBe('\\u{d800}')
  })

  it('cuts what is too long, also in the middle of a character', () => {
    expect(printable('a'.repeat(256))).toBe('a'.repeat(256))
    expect(printable('a'.repeat(257))).toBe(`${'a'.repeat(256)}…`)
    expect(printable('abcdef', 3)).toBe('abc…')
    expect(printable('ab💾', 3)).toBe('ab\\u{d83d}…')
  })
})

describe('ProtocolError', () => {
  it('carries a stable code', () => {
    const error = new ProtocolError('TOO_LONG', 'an option of 5 bytes')
    expect(error).toMatchObject({ name: 'ProtocolError', code: 'TOO_LONG', message: 'an option of 5 bytes' })
  })
})
