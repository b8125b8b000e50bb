/** Headers of version 2 of the PROXY protocol, read and written (proxy-protocol.txt, 2.2). */
import { MAX_PROXY_HEADER_BYTES, Pp2Client, Pp2Type } from './constants.ts'
import { crc32c } from './crc32c.ts'
import { ProtocolError } from './errors.ts'
import { addressBytes, addressText } from './ip-text.ts'
import type { DecodedProxyHeader, Endpoints, ProxiedClient, ProxiedTls, ProxyHeader } from './proxy-facts.ts'

/** What a header of version 2 begins with. */
export const V2_SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n', 'latin1')

const HEAD_BYTES = 16
const TLV_HEAD_BYTES = 3
const CHECKSUM_BYTES = 4

/** Version and command. */
const LOCAL = 0x20
const PROXY = 0x21

/** Families and protocols that there are; those of one family have addresses of one size. */
const MAX_FAMILY = 3
const MAX_PROTOCOL = 2
const ADDRESS_BYTES = [0, 12, 36, 216]
const UNSPECIFIED = 0x00
const TCP_OVER_IPV4 = 0x11
const TCP_OVER_IPV6 = 0x21

/**
 * A header of version 2.
 *
 *     0       signature, 12 bytes
 *    12  u8   version (2) in the high half, command in the low one: LOCAL or PROXY
 *    13  u8   family in the high half (unspecified, IPv4, IPv6, Unix), protocol in the low one (unspecified, stream, datagram)
 *    14  u16  length of what follows
 *    16       source and destination: addresses, then ports; 12 bytes of IPv4, 36 of IPv6, 216 of Unix
 *     …       TLVs: u8 type, u16 length, value
 *
 * Undefined as long as more has to come.
 * @throws ProtocolError BAD_FLAGS, BAD_LENGTH, BAD_CHECKSUM or TOO_LONG
 */
export function decodeProxyV2(bytes: Buffer): DecodedProxyHeader | undefined {
  const [command, kind] = [bytes[12], bytes[13]]
  if (command !== undefined && command !== LOCAL && command !== PROXY) {
    throw new ProtocolError('BAD_FLAGS', `a PROXY header of version and command 0x${command.toString(16)}`)
  }
  if (kind === undefined || bytes.length < HEAD_BYTES) return undefined
  const sizeBytes = HEAD_BYTES + bytes.readUInt16BE(14)
  if (sizeBytes > MAX_PROXY_HEADER_BYTES) throw new ProtocolError('TOO_LONG', `a PROXY header of ${sizeBytes} bytes`)
  if (bytes.length < sizeBytes) return undefined
  // "The receiver … must use the real connection endpoints and discard the protocol block including the family".
  if (command === LOCAL) return { header: { kind: 'own' }, sizeBytes }
  return { header: proxied(bytes.subarray(0, sizeBytes), kind), sizeBytes }
}

function proxied(header: Buffer, kind: number): ProxyHeader {
  const [family, protocol] = [kind >> 4, kind & 0x0f]
  if (family > MAX_FAMILY || protocol > MAX_PROTOCOL) {
    throw new ProtocolError('BAD_FLAGS', `a PROXY header of family and protocol 0x${kind.toString(16)}`)
  }
  // What follows then is nobody's business: "The receiver should ignore address information".
  if (family === 0 || protocol === 0) return { kind: 'own' }
  const addressesEnd = HEAD_BYTES + (ADDRESS_BYTES[family] ?? 0)
  if (header.length < addressesEnd) throw new ProtocolError('BAD_LENGTH', 'a PROXY header too short for its addresses')
  checkTlvs(header, addressesEnd)
  // "provided that it automatically falls back to the UNSPEC mode for the valid combinations … that it does not support"
  if (kind !== TCP_OVER_IPV4 && kind !== TCP_OVER_IPV6) return { kind: 'own' }
  const size = kind === TCP_OVER_IPV4 ? 4 : 16
  const [middle, ports] = [HEAD_BYTES + size, HEAD_BYTES + 2 * size]
  return {
    kind: 'client',
    source: { address: addressText(header.subarray(HEAD_BYTES, middle)), port: header.readUInt16BE(ports) },
    destination: { address: addressText(header.subarray(middle, ports)), port: header.readUInt16BE(ports + 2) },
  }
}

/** Each TLV lies inside the header; one with a checksum is right. The others are passed over. */
function checkTlvs(header: Buffer, start: number): void {
  for (let at = start; at < header.length; ) {
    const value = at + TLV_HEAD_BYTES
    const end = value > header.length ? value : value + header.readUInt16BE(at + 1)
    if (end > header.length) throw new ProtocolError('BAD_LENGTH', 'a TLV that goes beyond its PROXY header')
    if (header[at] === Pp2Type.CRC32C) checkChecksum(header, value, end)
    at = end
  }
}

function checkChecksum(header: Buffer, start: number, end: number): void {
  if (end - start !== CHECKSUM_BYTES) throw new ProtocolError('BAD_LENGTH', `a checksum of ${end - start} bytes`)
  const blank = Buffer.from(header).fill(0, start, end)
  if (crc32c(blank) !== header.readUInt32BE(start)) {
    throw new ProtocolError('BAD_CHECKSUM', 'a PROXY header that its checksum does not fit')
  }
}

/**
 * The header for a client; undefined when there is none that would be understood: a name can be longer than receivers take,
 * and one with a NUL is another name to those that end their strings with it.
 */
export function encodeProxyV2({ endpoints, tls }: ProxiedClient): Buffer | undefined {
  if (tls?.certificate?.commonName?.includes('\0')) return undefined
  const { kind, addresses } = encodeEndpoints(endpoints)
  const body = Buffer.concat([addresses, tls === undefined ? Buffer.alloc(0) : encodeTls(tls)])
  if (HEAD_BYTES + body.length > MAX_PROXY_HEADER_BYTES) return undefined
  const head = Buffer.from([...V2_SIGNATURE, PROXY, kind, 0, 0])
  head.writeUInt16BE(body.length, 14)
  return Buffer.concat([head, body])
}

function encodeEndpoints(endpoints: Endpoints | undefined): { readonly kind: number; readonly addresses: Buffer } {
  const source = addressBytes(endpoints?.source.address ?? '')
  const destination = addressBytes(endpoints?.destination.address ?? '')
  if (endpoints === undefined || source === undefined || destination === undefined) {
    return { kind: UNSPECIFIED, addresses: Buffer.alloc(0) }
  }
  const ports = Buffer.alloc(4)
  ports.writeUInt16BE(endpoints.source.port, 0)
  ports.writeUInt16BE(endpoints.destination.port, 2)
  const isV4 = source.length === 4 && destination.length === 4
  const both = isV4 ? [source, destination] : [mapped(source), mapped(destination)]
  return { kind: isV4 ? TCP_OVER_IPV4 : TCP_OVER_IPV6, addresses: Buffer.concat([...both, ports]) }
}

/** An IPv4 address mapped into IPv6 (RFC 4291, 2.5.5.2). */
function mapped(bytes: Buffer): Buffer {
  return bytes.length === 16 ? bytes : Buffer.concat([Buffer.alloc(10), Buffer.from([0xff, 0xff]), bytes])
}

/** PP2_TYPE_SSL: u8 what there is, u32 zero if a certificate was verified, TLVs. */
function encodeTls({ version, cipher, certificate }: ProxiedTls): Buffer {
  const flags = certificate === undefined ? Pp2Client.SSL : Pp2Client.SSL | Pp2Client.CERT_CONN | Pp2Client.CERT_SESS
  const facts = Buffer.from([flags, 0, 0, 0, certificate === undefined ? 1 : 0])
  const name = certificate?.commonName
  const inner = [
    encodeTlv(Pp2Type.SSL_VERSION, Buffer.from(version)),
    ...(name === undefined ? [] : [encodeTlv(Pp2Type.SSL_CN, Buffer.from(name))]),
    encodeTlv(Pp2Type.SSL_CIPHER, Buffer.from(cipher)),
  ]
  return encodeTlv(Pp2Type.SSL, Buffer.concat([facts, ...inner]))
}

function encodeTlv(type: Pp2Type, value: Buffer): Buffer {
  const head = Buffer.from([type, 0, 0])
  // What does not fit makes the header too long, and is never sent.
  head.writeUInt16BE(Math.min(value.length, 0xffff), 1)
  return Buffer.concat([head, value])
}
