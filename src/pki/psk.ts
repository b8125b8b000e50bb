// Pre-shared keys, in the file that psktool makes and that nbdkit, libnbd and qemu read: `NAME:HEX` lines. As in GnuTLS a
// line `#HEX:HEX` has its name in hexadecimal digits; any other line that begins with # is a comment.
import { MaterialError } from './errors.ts'
import { modeOf, octal, readText, warnAboutMode } from './read-text.ts'

/** Keys by the name that comes with them. */
export type PskTable = ReadonlyMap<string, Buffer>

/** A key of less can be guessed from one recorded handshake (RFC 9257, 4.1: at least 128 bits). */
const MIN_KEY_BYTES = 16
const MAX_KEY_BYTES = 256
/** What GnuTLS and every OpenSSL can carry. */
const MAX_NAME_BYTES = 128

/** Loads the keys. Throws MaterialError that names the line of what is wrong, and never quotes it. */
export function loadPsks(file: string): { readonly keys: PskTable; readonly warnings: readonly string[] } {
  const text = readText(file)
  const mode = modeOf(file)
  if (process.platform !== 'win32' && (mode & 0o004) !== 0) {
    throw new MaterialError('EXPOSED', file, `everybody may read the keys (mode ${octal(mode)}): chmod 600 it`)
  }
  const warnings: string[] = []
  warnAboutMode(file, 'keys', warnings)
  const keys = new Map<string, Buffer>()
  const lines = new Map<string, number>()
  for (const [at, written] of text.split('\n').entries()) {
    const line = at + 1
    const trimmed = written.replace(/\r$/, '')
    if (trimmed.trim() === '' || (trimmed.startsWith('#') && !/^#[0-9a-f]+:[0-9a-f]*$/i.test(trimmed))) continue
    const entry = parseLine(trimmed)
    if (typeof entry === 'string') throw new MaterialError('BAD_PSK', file, entry, { line })
    const before = lines.get(entry.name)
    if (before !== undefined) {
      throw new MaterialError('BAD_PSK', file, `line ${before} has a key of this name already`, { line })
    }
    lines.set(entry.name, line)
    keys.set(entry.name, entry.key)
  }
  if (keys.size === 0)
    throw new MaterialError('BAD_PSK', file, 'holds no key: a line is NAME:HEX, as psktool writes it')
  return { keys, warnings }
}

/** One line; a text is what is wrong with it. */
function parseLine(line: string): { readonly name: string; readonly key: Buffer } | string {
  const colon = line.lastIndexOf(':')
  if (colon < 0) return 'a line is NAME:HEX, as psktool writes it'
  const name = line.startsWith('#') ? Buffer.from(line.slice(1, colon), 'hex').toString('utf8') : line.slice(0, colon)
  const hex = line.slice(colon + 1)
  if (name === '') return 'the name is missing'
  // U+FFFD: bytes that were no UTF-8. Such a name could not be told from others.
  if (/[\p{C}\p{Zl}\p{Zp}\ufffd]/u.test(name)) return 'the name has control characters in it, or is not UTF-8'
  if (Buffer.byteLength(name) > MAX_NAME_BYTES) return `the name is longer than ${MAX_NAME_BYTES} bytes`
  if (!/^([0-9a-f]{2})*$/i.test(hex)) return 'the key is not pairs of hexadecimal digits'
  const bytes = hex.length / 2
  if (bytes < MIN_KEY_BYTES) return `the key has ${bytes} bytes: it needs ${MIN_KEY_BYTES}, and psktool makes 32`
  if (bytes > MAX_KEY_BYTES) return `the key is longer than ${MAX_KEY_BYTES} bytes`
  return { name, key: Buffer.from(hex, 'hex') }
}
