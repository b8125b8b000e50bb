// PKCS #12 (RFC 7292): certificate, chain and key in one file behind a password, for programs that take nothing else. Forge
// makes such files for RSA only; here it gives the key derivation for the MAC, node:crypto does the rest. Loads node-forge.
import { createHmac, createPrivateKey, randomBytes, X509Certificate } from 'node:crypto'
import forge from 'node-forge'
import {
  type Der,
  decodeDer,
  encodeDer,
  explicit,
  integer,
  nothing,
  objectId,
  octetString,
  sequence,
  setOf,
} from './der.ts'
import type { KeyedCertificate } from './files.ts'

const DATA = '1.2.840.113549.1.7.1'
const SHROUDED_KEY_BAG = '1.2.840.113549.1.12.10.1.2'
const CERT_BAG = '1.2.840.113549.1.12.10.1.3'
const X509_CERTIFICATE = '1.2.840.113549.1.9.22.1'
const LOCAL_KEY_ID = '1.2.840.113549.1.9.21'
const SHA256 = '2.16.840.1.101.3.4.2.1'
const MAC_KEY = 3 // RFC 7292, B.3: the purpose "MAC"
const MAC_ITERATIONS = 100_000

/** The file. The key is under PBES2 with AES-256; certificates are no secret and stand in the clear, under the MAC. */
export function encodePkcs12(leaf: KeyedCertificate, authorityPem: string, password: string): Buffer {
  const certificates = [...certificatesOf(leaf.certificatePem), ...certificatesOf(authorityPem)]
  const unique = [...new Map(certificates.map(each => [each.fingerprint256, each])).values()]
  const [own] = unique
  if (own === undefined) throw new TypeError('no certificate')
  const keyId = Buffer.from(own.fingerprint.replaceAll(':', ''), 'hex')
  const key = createPrivateKey(leaf.privateKeyPem).export({
    type: 'pkcs8',
    format: 'der',
    cipher: 'aes-256-cbc',
    passphrase: password,
  })
  const keyBag = bag(SHROUDED_KEY_BAG, decodeDer(key), keyId)
  const certBags = unique.map((each, at) => bag(CERT_BAG, certBag(each), at === 0 ? keyId : undefined))
  const safe = encodeDer(sequence(dataInfo(encodeDer(sequence(keyBag))), dataInfo(encodeDer(sequence(...certBags)))))
  return encodeDer(sequence(integer(3), dataInfo(safe), macData(safe, password)))
}

function certificatesOf(pem: string): X509Certificate[] {
  const blocks = pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []
  return blocks.map(block => new X509Certificate(block))
}

function dataInfo(content: Uint8Array): Der {
  return sequence(objectId(DATA), explicit(0, octetString(content)))
}

function certBag(certificate: X509Certificate): Der {
  return sequence(objectId(X509_CERTIFICATE), explicit(0, octetString(certificate.raw)))
}

function bag(kind: string, value: Der, keyId: Uint8Array | undefined): Der {
  const attributes = keyId === undefined ? [] : [setOf(sequence(objectId(LOCAL_KEY_ID), setOf(octetString(keyId))))]
  return sequence(objectId(kind), explicit(0, value), ...attributes)
}

function macData(content: Uint8Array, password: string): Der {
  const salt = randomBytes(16)
  const derived = forge.pkcs12.generateKey(
    password,
    forge.util.createBuffer(salt.toString('latin1')),
    MAC_KEY,
    MAC_ITERATIONS,
    32,
    forge.md.sha256.create(),
  )
  const mac = createHmac('sha256', Buffer.from(derived.getBytes(), 'latin1')).update(content).digest()
  const iterations = integer(MAC_ITERATIONS >>> 16, (MAC_ITERATIONS >>> 8) & 0xff, MAC_ITERATIONS & 0xff)
  return sequence(sequence(sequence(objectId(SHA256), nothing()), octetString(mac)), octetString(salt), iterations)
}
