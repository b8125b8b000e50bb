// The subject of a certificate as it is written, under what node:crypto makes of it.
import type { X509Certificate } from 'node:crypto'
import { readItems, readSequence } from './der-reader.ts'

/** DER of a certificate's subject. Throws RangeError. */
export function subjectName(certificate: X509Certificate): Buffer {
  const [tbs] = readSequence(certificate.raw)
  const fields = tbs === undefined ? [] : readItems(tbs.content)
  if (fields[0]?.tag === 0xa0) fields.shift() // version
  // serialNumber, signature, issuer, validity, subject
  const subject = fields[4]
  if (subject === undefined) throw new RangeError('not a certificate')
  return subject.raw
}

/** UTF8String, NumericString, PrintableString, T61String, IA5String, VisibleString, UniversalString, BMPString. */
const TEXT_TAGS = [0x0c, 0x12, 0x13, 0x14, 0x16, 0x1a, 0x1c, 0x1e]

/** Whether all values of a name are text: Node leaves out one that is not, or with it the whole name. Throws RangeError. */
export function isAllText(name: Buffer): boolean {
  return readSequence(name).every(set =>
    readItems(set.content).every(pair => TEXT_TAGS.includes(readItems(pair.content)[1]?.tag ?? 0)),
  )
}
