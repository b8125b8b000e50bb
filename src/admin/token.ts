import { createHash, timingSafeEqual } from 'node:crypto'
import { readFileSync } from 'node:fs'

/** Shorter ones can be guessed. */
const MIN_LENGTH = 16

/** A token file that can not be used. */
export class TokenError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'TokenError'
  }
}

/** Compares in a time that does not depend on what is compared. */
export type TokenCheck = (authorization: string | undefined) => boolean

/** Loads a token: the first line of a file. @throws TokenError */
export function loadToken(file: string): TokenCheck {
  const token = readToken(file)
  const wanted = digest(token)
  return authorization => {
    const given = /^Bearer +(\S+)$/i.exec(authorization ?? '')?.[1]
    return given !== undefined && timingSafeEqual(digest(given), wanted)
  }
}

function readToken(file: string): string {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (cause) {
    throw new TokenError(`${file}: this can not be read`, { cause })
  }
  const token = (text.split('\n')[0] ?? '').trim()
  if (!/^[\x21-\x7e]+$/.test(token)) throw new TokenError(`${file}: its first line is not a token of printable ASCII`)
  if (token.length < MIN_LENGTH) throw new TokenError(`${file}: a token has at least ${MIN_LENGTH} characters`)
  return token
}

function digest(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
