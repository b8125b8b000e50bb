import { describe, expect, it } from 'vitest'
import {
  decodeMetaContext,
  decodeMetaQuery,
  encodeMetaContext,
  encodeMetaQuery,
} from '../../../src/protocol/meta-context.ts'
import { hex } from '../../support/bytes.ts'

const ALLOCATION = '0000000f 626173653a616c6c6f636174696f6e'
const QUERY = hex('00000004 6469736b 00000002', ALLOCATION, '00000005 71656d753a')

describe('a query for metadata contexts', () => {
  it('is the name of the export, a count, and each query with its length', () => {
    const query = { name: 'disk', queries: ['base:allocation', 'qemu:'] }
    expect(decodeMetaQuery(QUERY)).toEqual(query)
    expect(encodeMetaQuery(query)).toEqual(QUERY)
    expect(decodeMetaQuery(hex('00000000 00000000'))).toEqual({ name: '', queries: [] })
  })

  it('is invalid when a byte is missing, wherever, or one is too many', () => {
    for (let length = 0; length < QUERY.length; length++) {
      expect(decodeMetaQuery(Buffer.from(QUERY.subarray(0, length))), `${length} bytes`).toBe('invalid')
    }
    expect(decodeMetaQuery(Buffer.concat([QUERY, hex('00')]))).toBe('invalid')
  })

  it('is invalid when it claims more than there is, without counting to it', () => {
    expect(decodeMetaQuery(hex('ffffffff 6469736b 00000000'))).toBe('invalid')
    expect(decodeMetaQuery(hex('00000004 6469736b ffffffff'))).toBe('invalid')
    expect(decodeMetaQuery(hex('00000004 6469736b 00000001 ffffffff 613a62'))).toBe('invalid')
  })

  it('is invalid without a namespace, and with what is no text', () => {
    for (const query of ['00000001 61', '00000002 3a61', '00000000', '00000003 613aff', '00000003 613a00']) {
      expect(decodeMetaQuery(hex('00000000 00000001', query)), query).toBe('invalid')
    }
    expect(decodeMetaQuery(hex('00000001 ff 00000000'))).toBe('invalid')
  })

  it('is too big with a string of more than 4096 bytes', () => {
    const long = (bytes: number) => Buffer.concat([hex('00000000 00000001'), hex(bytes.toString(16).padStart(8, '0'))])
    expect(decodeMetaQuery(Buffer.concat([long(4096), Buffer.alloc(4096, 'a:')]))).toMatchObject({ name: '' })
    expect(decodeMetaQuery(Buffer.concat([long(4097), Buffer.alloc(4097, 'a:')]))).toBe('too big')
  })
})

describe('a metadata context', () => {
  it('is an id and a name', () => {
    const bytes = hex('80000001 626173653a616c6c6f636174696f6e')
    expect(decodeMetaContext(bytes)).toEqual({ id: 0x8000_0001, name: 'base:allocation' })
    expect(encodeMetaContext({ id: 0x8000_0001, name: 'base:allocation' })).toEqual(bytes)
  })

  it('is refused when it is short, or its name has no namespace or is no text', () => {
    expect(() => decodeMetaContext(hex('000000'))).toThrow(expect.objectContaining({ code: 'BAD_LENGTH' }))
    for (const name of ['', '61', '3a61', '613aff']) {
      expect(() => decodeMetaContext(hex('00000001', name))).toThrow(expect.objectContaining({ code: 'BAD_REPLY' }))
    }
  })
})
