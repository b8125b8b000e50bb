// The few shapes of DER (X.690) that an X.509 certificate needs, on top of node-forge's ASN.1 encoder. Forge's own
// certificate code is not used: it knows RSA only. This is offline code: `serve` must never load it.
import forge from 'node-forge'

const { asn1 } = forge
const { Class, Type } = asn1

/** One node of an ASN.1 tree. */
export type Der = forge.asn1.Asn1

// Forge keeps bytes in strings, one character a byte.
function binary(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('latin1')
}

/** SEQUENCE. */
export function sequence(...items: Der[]): Der {
  return asn1.create(Class.UNIVERSAL, Type.SEQUENCE, true, items)
}

/** SET with one member, as a relative distinguished name is. */
export function setOf(item: Der): Der {
  return asn1.create(Class.UNIVERSAL, Type.SET, true, [item])
}

/** `[tag] EXPLICIT`. */
export function explicit(tag: number, ...items: Der[]): Der {
  return asn1.create(Class.CONTEXT_SPECIFIC, tag, true, items)
}

/** `[tag] IMPLICIT` of a primitive. */
export function implicit(tag: number, bytes: Uint8Array): Der {
  return asn1.create(Class.CONTEXT_SPECIFIC, tag, false, binary(bytes))
}

/** OBJECT IDENTIFIER, from its dotted form. */
export function objectId(dotted: string): Der {
  return asn1.create(Class.UNIVERSAL, Type.OID, false, asn1.oidToDer(dotted).getBytes())
}

/** INTEGER, from its big-endian two's complement bytes. */
export function integer(...bytes: number[]): Der {
  return asn1.create(Class.UNIVERSAL, Type.INTEGER, false, binary(Uint8Array.from(bytes)))
}

/** ENUMERATED, of one byte. */
export function enumerated(value: number): Der {
  return asn1.create(Class.UNIVERSAL, Type.ENUMERATED, false, String.fromCharCode(value))
}

/** BOOLEAN TRUE; DER leaves out a FALSE that is the default. */
export function yes(): Der {
  return asn1.create(Class.UNIVERSAL, Type.BOOLEAN, false, '\xff')
}

/** NULL. */
export function nothing(): Der {
  return asn1.create(Class.UNIVERSAL, Type.NULL, false, '')
}

/** OCTET STRING. */
export function octetString(bytes: Uint8Array): Der {
  return asn1.create(Class.UNIVERSAL, Type.OCTETSTRING, false, binary(bytes))
}

/** BIT STRING; `unusedBits` counts from the end of the last byte. */
export function bitString(bytes: Uint8Array, unusedBits = 0): Der {
  return asn1.create(Class.UNIVERSAL, Type.BITSTRING, false, String.fromCharCode(unusedBits) + binary(bytes))
}

/** Extension ::= SEQUENCE { extnID, critical, extnValue } of certificates and revocation lists (RFC 5280, 4.1). */
export function extension(oid: string, critical: boolean, value: Der): Der {
  const content = octetString(encodeDer(value))
  return critical ? sequence(objectId(oid), yes(), content) : sequence(objectId(oid), content)
}

/** UTF8String. */
export function utf8String(text: string): Der {
  return asn1.create(Class.UNIVERSAL, Type.UTF8, false, binary(Buffer.from(text, 'utf8')))
}

/** Time: UTCTime until 2049 and GeneralizedTime from 2050 on (RFC 5280, 4.1.2.5). */
export function time(at: Date): Der {
  if (at.getUTCFullYear() < 2050) {
    return asn1.create(Class.UNIVERSAL, Type.UTCTIME, false, asn1.dateToUtcTime(at))
  }
  return asn1.create(Class.UNIVERSAL, Type.GENERALIZEDTIME, false, asn1.dateToGeneralizedTime(at))
}

/** The bytes of a tree. */
export function encodeDer(node: Der): Buffer {
  return Buffer.from(asn1.toDer(node).getBytes(), 'latin1')
}

/** The tree of bytes that OpenSSL has accepted before: forge is no judge of what comes from outside. Throws forge's errors. */
export function decodeDer(bytes: Uint8Array): Der {
  return asn1.fromDer(binary(bytes))
}

/** The members of a constructed node; none for a primitive one. */
export function members(node: Der | undefined): readonly Der[] {
  return node !== undefined && Array.isArray(node.value) ? node.value : []
}
