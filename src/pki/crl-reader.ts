import { type KeyObject, verify } from 'node:crypto'
import { contentOf, type Element, elementAt, elementsOf, Tag } from './der-reader.ts'

/** Signature algorithms by the content of their OID, in hexadecimal: the digest, undefined where the algorithm has its own. */
const DIGESTS: ReadonlyMap<string, string | undefined> = new Map([
  ['2a8648ce3d040302', 'sha256'],
  ['2a8648ce3d040303', 'sha384'],
  ['2a8648ce3d040304', 'sha512'],
  ['2a864886f70d01010b', 'sha256'],
  ['2a864886f70d01010c', 'sha384'],
  ['2a864886f70d01010d', 'sha512'],
  ['2b6570', undefined],
])

/** A list of revoked certificates (RFC 5280, 5). */
export class Crl {
  readonly #der: Buffer
  readonly #signed: Element
  readonly #algorithm: string
  readonly #signature: Buffer
  readonly #serials = new Set<bigint>()

  /** @throws RangeError if the text is no CRL */
  constructor(pem: string) {
    this.#der = Buffer.from(pem.replace(/-----[^-]+-----/g, ''), 'base64')
    const [signed, algorithm, signature] = this.#elements(elementAt(this.#der, 0, this.#der.length))
    if (signed === undefined || algorithm === undefined || signature === undefined) throw new RangeError('not a CRL')
    this.#signed = signed
    this.#algorithm = this.#oidOf(algorithm)
    this.#signature = contentOf(this.#der, signature).subarray(1)
    for (const entry of this.#entries()) this.#serials.add(this.#serialOf(entry))
  }

  /** Whether the owner of this key made the list. */
  isSignedBy(key: KeyObject): boolean {
    if (!DIGESTS.has(this.#algorithm)) return false
    const signed = this.#der.subarray(this.#signed.start, this.#signed.end)
    return verify(DIGESTS.get(this.#algorithm), signed, key, this.#signature)
  }

  /** Whether the list names a certificate; `serial` in hexadecimal as X509Certificate has it. */
  lists(serial: string): boolean {
    return this.#serials.has(BigInt(`0x${serial}`))
  }

  /** version?, signature, issuer, thisUpdate, nextUpdate?, revokedCertificates?, [0] extensions? */
  #entries(): readonly Element[] {
    const fields = this.#elements(this.#signed)
    const isTime = ({ tag }: Element): boolean => tag === Tag.UTC_TIME || tag === Tag.GENERALIZED_TIME
    const last = fields.findLastIndex(isTime)
    if (last < 0) throw new RangeError('a CRL without a time')
    const revoked = fields[last + 1]
    return revoked?.tag === Tag.SEQUENCE ? this.#elements(revoked) : []
  }

  #serialOf(entry: Element): bigint {
    const [serial] = this.#elements(entry)
    if (serial?.tag !== Tag.INTEGER) throw new RangeError('an entry of a CRL without a serial number')
    return BigInt(`0x${contentOf(this.#der, serial).toString('hex') || '0'}`)
  }

  #oidOf(algorithm: Element): string {
    const [oid] = this.#elements(algorithm)
    return oid?.tag === Tag.OID ? contentOf(this.#der, oid).toString('hex') : ''
  }

  #elements(parent: Element): readonly Element[] {
    return elementsOf(this.#der, parent)
  }
}
