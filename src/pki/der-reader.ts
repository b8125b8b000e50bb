// Reads DER (X.690) without node-forge: `serve` looks into its own revocation lists, and must not load an ASN.1 library
// for that. Only the shapes of X.509: tags of one byte, definite lengths.

import { printable } from '../protocol/strings.ts'

/** One element: its tag byte, what is in it, and all of it. */
export interface DerItem {
  readonly tag: number
  readonly content: Buffer
  readonly raw: Buffer
}

/** Tag bytes that X.509 uses. */
export const Tag = {
  INTEGER: 0x02,
  BIT_STRING: 0x03,
  OCTET_STRING: 0x04,
  OBJECT_ID: 0x06,
  UTF8_STRING: 0x0c,
  UTC_TIME: 0x17,
  GENERALIZED_TIME: 0x18,
  BMP_STRING: 0x1e,
  SEQUENCE: 0x30,
} as const

/** The elements that follow each other in these bytes. Throws RangeError for what is no DER. */
export function readItems(bytes: Buffer): DerItem[] {
  const items: DerItem[] = []
  for (let at = 0; at < bytes.length; ) {
    const item = readItem(bytes, at)
    items.push(item)
    at += item.raw.length
  }
  return items
}

/** The elements inside the one element that these bytes are. Throws RangeError. */
export function readSequence(bytes: Buffer): DerItem[] {
  const item = readItem(bytes, 0)
  if (item.tag !== Tag.SEQUENCE || item.raw.length !== bytes.length) throw new RangeError('not one DER sequence')
  return readItems(item.content)
}

function readItem(bytes: Buffer, at: number): DerItem {
  const tag = bytes[at]
  const first = bytes[at + 1]
  if (tag === undefined || first === undefined || (tag & 0x1f) === 0x1f) throw new RangeError('not DER')
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f
  if (first === 0x80 || lengthBytes > 4 || at + 2 + lengthBytes > bytes.length) throw new RangeError('not DER')
  const length = lengthBytes === 0 ? first : bytes.readUIntBE(at + 2, lengthBytes)
  const begin = at + 2 + lengthBytes
  if (begin + length > bytes.length) throw new RangeError('DER ends too early')
  return { tag, content: bytes.subarray(begin, begin + length), raw: bytes.subarray(at, begin + length) }
}

/** Milliseconds since 1970 of a UTCTime or GeneralizedTime as RFC 5280, 4.1.2.5 has them. Throws RangeError. */
export function readTime(item: DerItem): number {
  const text = item.content.toString('latin1')
  const [, year = '', rest = ''] = /^(\d{2}|\d{4})(\d{10})Z$/.exec(text) ?? []
  const isShort = item.tag === Tag.UTC_TIME && year.length === 2
  if (!isShort && !(item.tag === Tag.GENERALIZED_TIME && year.length === 4)) throw new RangeError('not a time')
  const century = isShort ? (Number(year) < 50 ? '20' : '19') : ''
  const [month, day, hour, minute, second] = rest.match(/../g) ?? []
  const ms = Date.parse(`${century}${year}-${month}-${day}T${hour}:${minute}:${second}Z`)
  if (Number.isNaN(ms)) throw new RangeError('not a time')
  return ms
}

/** Upper-case hexadecimal digits of an INTEGER that is not negative, as `openssl x509 -serial` writes it. */
export function readSerial(item: DerItem): string {
  const digits = item.content
    .toString('hex')
    .toUpperCase()
    .replace(/^(00)+(?=..)/, '')
  return digits === '' ? '00' : digits
}

const ATTRIBUTES: ReadonlyMap<string, string> = new Map([
  ['550403', 'CN'],
  ['550406', 'C'],
  ['550407', 'L'],
  ['550408', 'ST'],
  ['55040a', 'O'],
  ['55040b', 'OU'],
])

/** A Name for logs, as CertificateFacts.subject has it: the most specific part first. Decides nothing. Throws RangeError. */
export function readNameForLog(name: Buffer): string {
  const parts = readSequence(name).flatMap(set =>
    readItems(set.content).map(pair => {
      const [type, value] = readItems(pair.content)
      if (type === undefined || value === undefined) throw new RangeError('not a name')
      const hex = type.content.toString('hex')
      return `${ATTRIBUTES.get(hex) ?? hex}=${textOf(value)}`
    }),
  )
  return printable(parts.reverse().join(','))
}

function textOf({ tag, content }: DerItem): string {
  if (tag === Tag.BMP_STRING && content.length % 2 === 0) return Buffer.from(content).swap16().toString('utf16le')
  return content.toString(tag === Tag.UTF8_STRING ? 'utf8' : 'latin1')
}
