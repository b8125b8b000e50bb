import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { crc32c } from '../../../src/protocol/crc32c.ts'
import { ProtocolError } from '../../../src/protocol/errors.ts'
import { addressBytes, addressText } from '../../../src/protocol/ip-text.ts'
import type { Endpoints } from '../../../src/protocol/proxy-facts.ts'
import { decodeProxyHeader } from '../../../src/protocol/proxy-header.ts'
import { encodeProxyV2 } from '../../../src/protocol/proxy-v2.ts'
import { everySplit, hex } from '../../support/bytes.ts'

const SIGNATURE = '0d0a0d0a 000d0a51 5549540a'
/** 192.0.2.7:50312 to 198.51.100.1:10809, and 2001:db8::7 to 2001:db8::1. */
const V4_ADDRESSES = 'c0000207 c6336401 c488 2a39'
const V6_ADDRESSES = '20010db8 00000000 00000000 00000007 20010db8 00000000 00000000 00000001 c488 2a39'
const V4: Endpoints = {
  source: { address: '192.0.2.7', port: 50312 },
  destination: { address: '198.51.100.1', port: 10809 },
}
const V6: Endpoints = {
  source: { address: '2001:db8::7', port: 50312 },
  destination: { address: '2001:db8::1', port: 10809 },
}
const OWN = { kind: 'own' }
/** Of the bytes of an address no one is told: 108 for each end. */
const UNIX_ADDRESSES = '2f746d70'.padEnd(216, '0').repeat(2)

const line = (text: string): Buffer => Buffer.from(`${text}\r\n`)
const v2 = (...parts: readonly string[]): Buffer => hex(SIGNATURE, ...parts)

/** The header of bytes that are one and nothing else. */
function headerOf(bytes: Buffer): unknown {
  const decoded = decodeProxyHeader(bytes)
  expect(decoded?.sizeBytes).toBe(bytes.length)
  return decoded?.header
}

/** The code of the error that bytes end in. */
function codeOf(bytes: Buffer): unknown {
  try {
    return decodeProxyHeader(bytes)
  } catch (error) {
    if (error instanceof ProtocolError) return error.code
    throw error
  }
}

describe('a PROXY header', () => {
  it.each([
    ['v1, IPv4', line('PROXY TCP4 192.0.2.7 198.51.100.1 50312 10809'), { kind: 'client', ...V4 }],
    ['v1, IPv6', line('PROXY TCP6 2001:db8::7 2001:DB8:0:0:0:0:0:1 50312 10809'), { kind: 'client', ...V6 }],
    ['v1, unknown', line('PROXY UNKNOWN'), OWN],
    ['v1, unknown with whatever', line('PROXY UNKNOWN ffff::1 \nx \r 1 2'), OWN],
    ['v2, IPv4', v2('21 11 000c', V4_ADDRESSES), { kind: 'client', ...V4 }],
    ['v2, IPv6', v2('21 21 0024', V6_ADDRESSES), { kind: 'client', ...V6 }],
    ['v2, Unix', v2('21 31 00d8', UNIX_ADDRESSES), OWN],
    ['v2, local', v2('20 00 0000'), OWN],
    ['v2, local with addresses of a family that there is not', v2('20 ff 0003 030001'), OWN],
    ['v2, unspecified', v2('21 00 0000'), OWN],
    ['v2, unspecified with something behind', v2('21 00 0002 ffff'), OWN],
    ['v2, a protocol that is not said', v2('21 10 000c', V4_ADDRESSES), OWN],
    ['v2, datagrams', v2('21 12 000c', V4_ADDRESSES), OWN],
    ['v2, TLVs passed over', v2('21 11 0015', V4_ADDRESSES, '05 0003 616263 ee 0000'), { kind: 'client', ...V4 }],
    ['v2, a checksum', v2('21 11 0018', V4_ADDRESSES, '03 0004 172b9085 04 0002 0000'), { kind: 'client', ...V4 }],
  ])('of %s is read, however it comes, and not a byte more', async (_, bytes, header) => {
    const rest = Buffer.from('SSH-2.0')
    await everySplit(bytes, (chunks, how) => {
      let got = Buffer.alloc(0)
      for (const chunk of chunks) {
        if (got.length < bytes.length) expect(decodeProxyHeader(got), how).toBeUndefined()
        got = Buffer.concat([got, chunk])
      }
      expect(decodeProxyHeader(got), how).toEqual({ header, sizeBytes: bytes.length })
    })
    expect(decodeProxyHeader(Buffer.concat([bytes, rest]))).toEqual({ header, sizeBytes: bytes.length })
  })

  it('may have a line of 107 bytes, and no longer one', () => {
    const longest = 'PROXY UNKNOWN '.padEnd(105, 'x')
    expect(headerOf(line(longest))).toEqual(OWN)
    expect(codeOf(line(`${longest}x`))).toBe('TOO_LONG')
    expect(codeOf(Buffer.from(`${longest}\rx`))).toBe('TOO_LONG')
    const largest = 'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'
    expect(headerOf(line(`PROXY TCP6 ${largest} ${largest} 65535 65535`))).toMatchObject({
      source: { address: largest, port: 65535 },
    })
  })

  it.each([
    ['nothing of the kind', 'GET / HTTP/1.1', 'BAD_MAGIC'],
    ['one letter of it wrong', 'PROXX', 'BAD_MAGIC'],
    ['small letters', 'proxy TCP4 ', 'BAD_MAGIC'],
    ['another family', 'PROXY UDP4 192.0.2.7 192.0.2.1 1 2', 'BAD_MAGIC'],
    ['a longer word than UNKNOWN', 'PROXY UNKNOWNS', 'BAD_MAGIC'],
    ['nothing behind the family', 'PROXY TCP4', 'BAD_ADDRESS'],
    ['two spaces', 'PROXY TCP4  192.0.2.7 192.0.2.1 1 2', 'BAD_ADDRESS'],
    ['a space at its end', 'PROXY TCP4 192.0.2.7 192.0.2.1 1 2 ', 'BAD_ADDRESS'],
    ['a tab', 'PROXY TCP4 192.0.2.7\t192.0.2.1 1 2', 'BAD_ADDRESS'],
    ['a word too many', 'PROXY TCP4 192.0.2.7 192.0.2.1 1 2 3', 'BAD_ADDRESS'],
    ['an octal octet', 'PROXY TCP4 192.0.2.07 192.0.2.1 1 2', 'BAD_ADDRESS'],
    ['an octet of 256', 'PROXY TCP4 192.0.2.256 192.0.2.1 1 2', 'BAD_ADDRESS'],
    ['three octets', 'PROXY TCP4 192.0.2 192.0.2.1 1 2', 'BAD_ADDRESS'],
    ['a name', 'PROXY TCP4 localhost 192.0.2.1 1 2', 'BAD_ADDRESS'],
    ['an address of the other family', 'PROXY TCP4 ::1 ::2 1 2', 'BAD_ADDRESS'],
    ['an address of the other family, 6', 'PROXY TCP6 192.0.2.7 192.0.2.1 1 2', 'BAD_ADDRESS'],
    ['a zone', 'PROXY TCP6 fe80::1%eth0 ::2 1 2', 'BAD_ADDRESS'],
    ['a bracket', 'PROXY TCP6 ::1]:80/x[ ::2 1 2', 'BAD_ADDRESS'],
    ['two double colons', 'PROXY TCP6 1::2::3 ::2 1 2', 'BAD_ADDRESS'],
    ['five digits', 'PROXY TCP6 12345::1 ::2 1 2', 'BAD_ADDRESS'],
    ['a port of 65536', 'PROXY TCP4 192.0.2.7 192.0.2.1 65536 2', 'BAD_ADDRESS'],
    ['an octal port', 'PROXY TCP4 192.0.2.7 192.0.2.1 01 2', 'BAD_ADDRESS'],
    ['a negative port', 'PROXY TCP4 192.0.2.7 192.0.2.1 1 -2', 'BAD_ADDRESS'],
    ['no second port', 'PROXY TCP4 192.0.2.7 192.0.2.1 1', 'BAD_ADDRESS'],
  ])('with %s is refused', (_, text, code) => {
    expect(codeOf(line(text))).toBe(code)
  })

  it.each([
    ['version 1', '11 11 000c', 'BAD_FLAGS'],
    ['version 3', '31 11 000c', 'BAD_FLAGS'],
    ['command 2', '22 11 000c', 'BAD_FLAGS'],
    ['family 4', `21 41 000c ${V4_ADDRESSES}`, 'BAD_FLAGS'],
    ['protocol 3', `21 13 000c ${V4_ADDRESSES}`, 'BAD_FLAGS'],
    ['addresses cut off', '21 11 000b c0000207 c6336401 c488 2a', 'BAD_LENGTH'],
    ['addresses of IPv4 for IPv6', `21 21 000c ${V4_ADDRESSES}`, 'BAD_LENGTH'],
    ['addresses of IPv6 for Unix', `21 31 0024 ${V6_ADDRESSES}`, 'BAD_LENGTH'],
    ['half a TLV head', `21 11 000e ${V4_ADDRESSES} 0400`, 'BAD_LENGTH'],
    ['a TLV that goes beyond', `21 11 0010 ${V4_ADDRESSES} 04 0002 00`, 'BAD_LENGTH'],
    ['a checksum of three bytes', `21 11 0012 ${V4_ADDRESSES} 03 0003 000000`, 'BAD_LENGTH'],
    ['a wrong checksum', `21 11 0018 ${V4_ADDRESSES} 03 0004 172b9084 04 0002 0000`, 'BAD_CHECKSUM'],
    ['more than 16 KiB', '21 11 3ff1', 'TOO_LONG'],
    ['all that a length can say', '20 00 ffff', 'TOO_LONG'],
  ])('of version 2 with %s is refused', (_, rest, code) => {
    expect(codeOf(v2(rest))).toBe(code)
  })

  it('is refused at the first byte that can not be of one', () => {
    for (const bytes of [line('PROXY '), v2('21')]) {
      for (let at = 0; at < Math.min(bytes.length, 12); at++) {
        if (bytes[0] !== 0x0d && at >= 6) continue
        const wrong = Buffer.from(bytes.subarray(0, at + 1))
        wrong[at] = (wrong[at] ?? 0) ^ 0x80
        expect(codeOf(wrong)).toBe('BAD_MAGIC')
        expect(codeOf(bytes.subarray(0, at))).toBeUndefined()
      }
    }
    expect(codeOf(v2('41'))).toBe('BAD_FLAGS')
  })

  it('may be as long as 16 KiB', () => {
    const room = 16 * 1024 - 16 - 12 - 3
    const header = v2('21 11 3ff0', V4_ADDRESSES, 'e0', room.toString(16).padStart(4, '0'), '00'.repeat(room))
    expect(headerOf(header)).toMatchObject({ kind: 'client' })
  })
})

describe('a header for an upstream', () => {
  it('says where the client comes from', () => {
    expect(encodeProxyV2({ endpoints: V4 })).toEqual(v2('21 11 000c', V4_ADDRESSES))
    expect(encodeProxyV2({ endpoints: V6 })).toEqual(v2('21 21 0024', V6_ADDRESSES))
  })

  it('maps an IPv4 end into IPv6 where the other one is of IPv6', () => {
    const endpoints = { source: V4.source, destination: V6.destination }
    const addresses = '00000000 00000000 0000ffff c0000207 20010db8 00000000 00000000 00000001 c488 2a39'
    expect(encodeProxyV2({ endpoints })).toEqual(v2('21 21 0024', addresses))
  })

  it('says of a client at a Unix socket that there is one, and no more', () => {
    expect(encodeProxyV2({})).toEqual(v2('21 00 0000'))
  })

  it('says what TLS there is, and whose certificate', () => {
    const tls = { version: 'TLSv1.3', cipher: 'TLS_AES_128_GCM_SHA256', certificate: { commonName: 'älice' } }
    const version = '21 0007 544c5376312e33'
    const name = '22 0006 c3a46c696365'
    const cipher = '23 0016 544c535f4145535f3132385f47434d5f534841323536'
    expect(encodeProxyV2({ endpoints: V4, tls })).toEqual(
      v2('21 11 0040', V4_ADDRESSES, '20 0031 07 00000000', version, name, cipher),
    )
    expect(encodeProxyV2({ endpoints: V4, tls: { ...tls, certificate: undefined } })).toEqual(
      v2('21 11 0037', V4_ADDRESSES, '20 0028 01 00000001', version, cipher),
    )
    expect(encodeProxyV2({ endpoints: V4, tls: { ...tls, certificate: { commonName: undefined } } })).toEqual(
      v2('21 11 0037', V4_ADDRESSES, '20 0028 07 00000000', version, cipher),
    )
  })

  it('is not made at all where a name is too long for it, or would be read as another', () => {
    const named = (commonName: string): Buffer | undefined =>
      encodeProxyV2({ endpoints: V4, tls: { version: 'TLSv1.3', cipher: 'x', certificate: { commonName } } })
    const made = (length: number): Buffer | undefined => named('a'.repeat(length))
    expect(named('alice\0mallory')).toBeUndefined()
    const most = 16 * 1024 - 16 - 12 - 3 - 5 - 10 - 3 - 4
    expect(made(most)).toHaveLength(16 * 1024)
    expect(made(most + 1)).toBeUndefined()
    expect(made(100_000)).toBeUndefined()
  })
})

describe('any bytes', () => {
  const whole = fc.constantFrom(
    line('PROXY TCP4 192.0.2.7 198.51.100.1 50312 10809'),
    line('PROXY TCP6 2001:db8::7 2001:db8::1 50312 10809'),
    v2('21 11 0018', V4_ADDRESSES, '03 0004 172b9085 04 0002 0000'),
    v2('21 21 0024', V6_ADDRESSES),
  )
  const anything = fc.uint8Array({ maxLength: 400 }).map(bytes => Buffer.from(bytes))

  /** An error of ours, or a header inside of what was given. */
  function endsInOrder(bytes: Buffer): boolean {
    try {
      const decoded = decodeProxyHeader(bytes)
      return decoded === undefined || (decoded.sizeBytes <= bytes.length && decoded.sizeBytes >= 15)
    } catch (error) {
      if (error instanceof ProtocolError) return true
      throw error
    }
  }

  it('end in a header, in a wish for more, or in a ProtocolError', () => {
    const begun = fc
      .tuple(fc.constantFrom(Buffer.from('PROXY '), Buffer.from('PROXY TCP6 '), v2('21'), v2('21 11')), anything)
      .map(parts => Buffer.concat(parts))
    const damaged = fc.tuple(whole, fc.nat(), fc.nat(255)).map(([bytes, at, value]) => {
      const copy = Buffer.from(bytes)
      copy[at % copy.length] = value
      return copy
    })
    fc.assert(fc.property(fc.oneof(anything, begun, damaged), endsInOrder), { numRuns: 5000 })
  })

  it('behind a header change nothing of it, and less than all of it is never one', () => {
    fc.assert(
      fc.property(whole, anything, fc.nat(), (header, rest, cut) => {
        const { length } = header
        expect(decodeProxyHeader(Buffer.concat([header, rest]))).toEqual(decodeProxyHeader(header))
        expect(decodeProxyHeader(header.subarray(0, cut % length))).toBeUndefined()
      }),
      { numRuns: 1000 },
    )
  })

  it('of a header with a checksum can not be changed unseen', () => {
    const header = v2('21 11 0018', V4_ADDRESSES, '03 0004 172b9085 04 0002 0000')
    for (let at = 16; at < header.length; at++) {
      // A TLV of another type has no checksum in it.
      if (at === 28) continue
      for (let bit = 0; bit < 8; bit++) {
        const changed = Buffer.from(header)
        changed[at] = (changed[at] ?? 0) ^ (1 << bit)
        expect(codeOf(changed)).toMatch(/^BAD_/)
      }
    }
  })

  it('that are an address are its text again', () => {
    const address = fc.constantFrom(4, 16).chain(size => fc.uint8Array({ minLength: size, maxLength: size }))
    fc.assert(
      fc.property(address, bytes => {
        expect(addressBytes(addressText(Buffer.from(bytes)))).toEqual(Buffer.from(bytes))
      }),
    )
  })
})

it('CRC32c is that of the tables', () => {
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe306_9283)
  // RFC 3720, B.4: 32 bytes of zeroes, and of ones.
  expect(crc32c(Buffer.alloc(32))).toBe(0x8a91_36aa)
  expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8_ab43)
})
