// Parts of a certificate as they are written, under what node:crypto makes of it.
import type { X509Certificate } from 'node:crypto'
import { readItems, readSequence } from './der-reader.ts'

/** DER of a certificate's subject. Throws RangeError. */
export function subjectName(certificate: X509Certificate): Buffer {
  return fieldOf(certificate, 4)
}

/** DER of a certificate's SubjectPublicKeyInfo; `publicKey.export` makes the same, out of a key that it decodes first. Throws RangeError. */
export function publicKeyInfo(certificate: X509Certificate): Buffer {
  return fieldOf(certificate, 5)
}

/** RFC 5280, 4.1: serialNumber, signature, issuer, validity, subject, subjectPublicKeyInfo; a version may stand before them. */
function fieldOf(certificate: X509Certificate, nth: number): Buffer {
  const [tbs] = readSequence(certificate.raw)
  const fields = tbs === undefined ? [] : readItems(tbs.content)
  if (fields[0]?.tag === 0xa0) fields.shift()
  const field = fields[nth]
  if (field === undefined) throw new RangeError('not a certificate')
  return field.raw
}

/** UTF8String, NumericString, PrintableString, T61String, IA5String, VisibleString, UniversalString, BMPString. */
const TEXT_TAGS = [0x0c, 0x12, 0x13, 0x14, 0x16, 0x1a, 0x1c, 0x1e]

/** Whether all values of a name are text: Node leaves out one that is not, or with it the whole name. Throws RangeError. */
export function isAllText(name: Buffer): boolean {
  return readSequence(name).every(set =>
    readItems(set.content).every(pair => TEXT_TAGS.includes(readItems(pair.content)[1]?.tag ?? 0)),
  )
}
