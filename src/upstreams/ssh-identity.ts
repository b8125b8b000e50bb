/** Private keys that log in somewhere: told apart before ssh2 sees them, for a message that helps. */
import { readFileSync } from 'node:fs'

/** A key's text, or why the file can not log in. */
export type Identity = { readonly text: string } | { readonly problem: string }

const MAGIC = 'openssh-key-v1\0'

/** Loads a private key without passphrase. */
export function loadIdentity(file: string): Identity {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch {
    return { problem: `${file}: can not be read` }
  }
  if (isEncrypted(text)) {
    return { problem: `${file}: is encrypted with a passphrase; use the agent, or a key without one` }
  }
  if (!/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(text)) return { problem: `${file}: is no private key` }
  return { text }
}

function isEncrypted(text: string): boolean {
  if (/BEGIN ENCRYPTED|Proc-Type: *4,ENCRYPTED/.test(text)) return true
  const body = /-----BEGIN OPENSSH PRIVATE KEY-----([A-Za-z0-9+/=\s]+)-----END/.exec(text)?.[1]
  if (body === undefined) return false
  const bytes = Buffer.from(body, 'base64')
  // PROTOCOL.key: the magic, then the name of the cipher as a string.
  if (bytes.toString('latin1', 0, MAGIC.length) !== MAGIC) return false
  return bytes.toString('latin1', MAGIC.length + 4, MAGIC.length + 8) !== 'none'
}
