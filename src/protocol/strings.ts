import { MAX_STRING_BYTES } from './constants.ts'

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/**
 * Decodes a string of the protocol: UTF-8, at most 4096 bytes, no NUL (proto.md, "Values").
 * Returns undefined for anything else: an option handler answers that with ERR_INVALID or ERR_TOO_BIG.
 */
export function decodeString(bytes: Uint8Array): string | undefined {
  if (bytes.length > MAX_STRING_BYTES || bytes.includes(0)) return undefined
  try {
    return utf8.decode(bytes)
  } catch {
    return undefined
  }
}

/**
 * A peer's text for a log line or a message: control characters, bidirectional overrides and line separators become
 * `\u{…}`, and what is longer than `limit` characters is cut.
 */
export function printable(text: string, limit = 256): string {
  const cut = text.length > limit ? `${text.slice(0, limit)}…` : text
  return cut.replace(
    /[\p{Cc}\p{Cf}\u2028\u2029\ud800-\udfff]/gu,
    char => `\\u{${(char.codePointAt(0) ?? 0).toString(16)}}`,
  )
}
