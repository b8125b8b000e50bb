/**
 * LUKS headers: whether bytes are one. LUKS1 as its on-disk format 1.2.3 has it, LUKS2 as "LUKS2 On-Disk Format
 * Specification" 1.1 has it: a binary header of 4096 bytes and a JSON area, twice, each with a checksum over both.
 */
import { createHash } from 'node:crypto'

/** What is read first: LUKS1's header with its key slots, LUKS2's binary header. */
export const FIRST_BYTES = 4096

/** Sizes of LUKS2's header that there are: the second copy lies that far behind the first. */
export const LUKS2_HEADER_SIZES: readonly number[] = Array.from({ length: 9 }, (_, power) => 0x4000 << power)

const MAGIC = Buffer.from('LUKS\xba\xbe', 'latin1')
const SECOND_MAGIC = Buffer.from('SKUL\xba\xbe', 'latin1')

const Field = { VERSION: 6, SIZE: 8, CHECKSUM_ALGORITHM: 72, OFFSET: 256, CHECKSUM: 448 } as const
const CHECKSUM_BYTES = 64

/** LUKS1: where its fields are, and the longest of its texts. */
const Field1 = { CIPHER: 8, HASH: 72, PAYLOAD: 104, KEY_BYTES: 108 } as const
const TEXT_BYTES = 32

/** Checksums that cryptsetup makes; others of OpenSSL's would be as good, and do not come. */
const ALGORITHMS = ['sha256', 'sha512', 'sha1', 'sha384', 'sha224']

/** The version that bytes with LUKS's magic say; undefined without it. */
export function luksVersion(bytes: Buffer): number | undefined {
  return bytes.length >= FIRST_BYTES && bytes.subarray(0, MAGIC.length).equals(MAGIC)
    ? bytes.readUInt16BE(Field.VERSION)
    : undefined
}

/** How long LUKS2's binary header says that it and its JSON area are; undefined if no header can be so long. */
export function luks2HeaderBytes(bytes: Buffer): number | undefined {
  const size = bytes.length >= FIRST_BYTES ? bytes.readBigUInt64BE(Field.SIZE) : 0n
  return LUKS2_HEADER_SIZES.find(known => BigInt(known) === size)
}

/** What is wrong with a header of LUKS1; undefined: nothing. */
export function luks1Problem(bytes: Buffer): string | undefined {
  if (luksVersion(bytes) !== 1) return 'no LUKS1 header'
  const cipher = textAt(bytes, Field1.CIPHER)
  if (cipher === '' || textAt(bytes, Field1.HASH) === '') return 'a LUKS1 header without a cipher'
  if (cipher.startsWith('cipher_null')) return 'a LUKS1 header whose cipher encrypts nothing'
  const isEmpty = bytes.readUInt32BE(Field1.PAYLOAD) === 0 || bytes.readUInt32BE(Field1.KEY_BYTES) === 0
  return isEmpty ? 'a LUKS1 header without a key' : undefined
}

/** What is wrong with a copy of LUKS2's header, binary header and JSON area; `at` is where it lies. undefined: nothing. */
export function luks2Problem(bytes: Buffer, at: number): string | undefined {
  const magic = at === 0 ? MAGIC : SECOND_MAGIC
  const isHeader = bytes.length >= FIRST_BYTES && bytes.subarray(0, magic.length).equals(magic)
  if (!isHeader || bytes.readUInt16BE(Field.VERSION) !== 2) return 'no LUKS2 header'
  const isInPlace = bytes.readBigUInt64BE(Field.OFFSET) === BigInt(at) && luks2HeaderBytes(bytes) === bytes.length
  if (!isInPlace) return 'a LUKS2 header that belongs elsewhere'
  const algorithm = textAt(bytes, Field.CHECKSUM_ALGORITHM)
  if (!ALGORITHMS.includes(algorithm)) return 'a LUKS2 header with a checksum of an unknown kind'
  const digest = createHash(algorithm)
    .update(bytes.subarray(0, Field.CHECKSUM))
    .update(Buffer.alloc(CHECKSUM_BYTES))
    .update(bytes.subarray(Field.CHECKSUM + CHECKSUM_BYTES))
    .digest()
  if (!bytes.subarray(Field.CHECKSUM, Field.CHECKSUM + digest.length).equals(digest)) {
    return 'a LUKS2 header with a wrong checksum'
  }
  return jsonProblem(bytes.subarray(FIRST_BYTES))
}

/** What of the JSON area says that nothing is encrypted. */
function jsonProblem(area: Buffer): string | undefined {
  const end = area.indexOf(0)
  const ciphers = ciphersIn(area.toString('utf8', 0, end < 0 ? area.length : end))
  if (ciphers.length === 0) return 'a LUKS2 header without an encrypted segment'
  const isPlain = ciphers.some(cipher => cipher.startsWith('cipher_null'))
  return isPlain ? 'a LUKS2 header whose cipher encrypts nothing' : undefined
}

function ciphersIn(json: string): readonly string[] {
  try {
    const segments = Object.values(recordOf(recordOf(JSON.parse(json)).segments)).map(recordOf)
    return segments.flatMap(({ encryption }) => (typeof encryption === 'string' ? [encryption] : []))
  } catch {
    return []
  }
}

function recordOf(value: unknown): Record<string, unknown> {
  return typeof value === 'object' && value !== null ? { ...value } : {}
}

function textAt(bytes: Buffer, at: number): string {
  const field = bytes.subarray(at, at + TEXT_BYTES)
  const end = field.indexOf(0)
  return field.toString('latin1', 0, end < 0 ? field.length : end)
}
