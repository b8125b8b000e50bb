/** Lines of OpenSSH's key files: options if there are any, the type, the key, a comment (sshd(8), "AUTHORIZED_KEYS FILE FORMAT"). */
import { printable } from '../protocol/strings.ts'
import { decodePublicKey, fingerprintOf, type PublicKey } from './public-key.ts'

/** What is wrong with a line; both numbers count from 1. */
export interface LineProblem {
  readonly line: number
  readonly column: number
  readonly message: string
}

/** A key of a line, and the option text in front of it. */
export interface KeyText {
  readonly key: PublicKey
  readonly blob: Buffer
  readonly comment: string
  readonly options: string
  /** Where the options begin, counted from 0. */
  readonly optionsAt: number
}

/** Text that is wrong at a place, counted from 0. */
export type Placed<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly at: number; readonly problem: string }

const TYPE = /^(?:ssh-|ecdsa-sha2-|sk-)[\w@.-]+(?=[ \t]|$)/

/** Lines of a file that are not empty and no comments, with their numbers. */
export function linesOf(text: string): readonly { readonly line: number; readonly text: string }[] {
  return text
    .split('\n')
    .map((each, index) => ({ line: index + 1, text: each.replace(/\r$/, '') }))
    .filter(each => !/^[ \t]*(#|$)/.test(each.text))
}

/** Reads a line with a key in it. */
export function parseKeyLine(text: string): Placed<KeyText> {
  const start = text.length - text.trimStart().length
  const optionsEnd = TYPE.test(text.slice(start)) ? start : endOfOptions(text, start)
  if (optionsEnd === undefined) return { ok: false, at: start, problem: 'a quote is not closed' }
  const typeAt = optionsEnd + (/^[ \t]*/.exec(text.slice(optionsEnd))?.[0].length ?? 0)
  const [type] = TYPE.exec(text.slice(typeAt)) ?? []
  if (type === undefined) return { ok: false, at: Math.min(typeAt, text.length), problem: 'no key stands here' }
  const [, gap = '', base64 = '', comment = ''] =
    /^([ \t]*)(\S*)[ \t]*(.*)$/.exec(text.slice(typeAt + type.length)) ?? []
  const key = parseKey(type, base64)
  if (!key.ok) return { ok: false, at: typeAt + (key.isType ? 0 : type.length + gap.length), problem: key.problem }
  return { ok: true, value: { ...key.value, comment, options: text.slice(start, optionsEnd), optionsAt: start } }
}

type KeyOrWhy =
  | { readonly ok: true; readonly value: Pick<KeyText, 'key' | 'blob'> }
  | { readonly ok: false; readonly problem: string; readonly isType: boolean }

/** A key out of its line, or why not; `isType`: what is wrong is its type. */
function parseKey(type: string, base64: string): KeyOrWhy {
  const wrong = (problem: string, isType = false): KeyOrWhy => ({ ok: false, problem, isType })
  if (/^sk-|^ssh-dss|-cert-v01@/.test(type)) {
    const instead = type.includes('-cert-') ? 'name its authority with cert-authority' : 'use Ed25519, ECDSA or RSA'
    return wrong(`keys of type ${printable(type, 64)} are not taken: ${instead}`, true)
  }
  if (!/^[A-Za-z0-9+/]+={0,2}$/.test(base64)) return wrong('the key is not base64')
  const blob = Buffer.from(base64, 'base64')
  const key = decodePublicKey(blob)
  if (key === undefined) return wrong('the key is malformed, too short, or of a type that is not taken')
  if (key.type !== type) return wrong('the key is of another type than its line says')
  return { ok: true, value: { key, blob } }
}

/** Options end at the first blank outside quotes; undefined when a quote stays open. */
function endOfOptions(text: string, start: number): number | undefined {
  let quoted = false
  for (let at = start; at < text.length; at++) {
    const char = text[at]
    if (quoted && char === '\\' && text[at + 1] === '"') at++
    else if (char === '"') quoted = !quoted
    else if (!quoted && (char === ' ' || char === '\t')) return at
  }
  return quoted ? undefined : text.length
}

/** Keys that nobody may log in with, by fingerprint; for certificates their authorities' too. */
export interface RevokedKeys {
  readonly fingerprints: ReadonlySet<string>
  readonly problems: readonly LineProblem[]
}

/** Reads revoked keys: public keys or fingerprints (`SHA256:…`), one a line, as `RevokedKeys` of sshd. No KRL. */
export function parseRevokedKeys(text: string): RevokedKeys {
  const fingerprints = new Set<string>()
  const problems: LineProblem[] = []
  if (text.startsWith('SSHKRL\n')) {
    return {
      fingerprints,
      problems: [{ line: 1, column: 1, message: 'a binary KRL is not read: write keys, one a line' }],
    }
  }
  for (const { line, text: each } of linesOf(text)) {
    const [fingerprint] = /^SHA256:[A-Za-z0-9+/]{43}(?=\s|$)/.exec(each.trimStart()) ?? []
    const key = fingerprint === undefined ? parseKeyLine(each) : undefined
    if (fingerprint !== undefined) fingerprints.add(fingerprint)
    else if (key?.ok === true && key.value.options === '') fingerprints.add(fingerprintOf(key.value.blob))
    else if (key?.ok === false) problems.push({ line, column: key.at + 1, message: key.problem })
    else problems.push({ line, column: 1, message: 'options mean nothing for a revoked key' })
  }
  return { fingerprints, problems }
}

/** Keys of a file without options, certificate authorities for example. */
export function parsePlainKeys(text: string): {
  readonly keys: readonly KeyText[]
  readonly problems: readonly LineProblem[]
} {
  const keys: KeyText[] = []
  const problems: LineProblem[] = []
  for (const { line, text: each } of linesOf(text)) {
    const key = parseKeyLine(each)
    if (key.ok && key.value.options === '') keys.push(key.value)
    else problems.push({ line, column: key.ok ? 1 : key.at + 1, message: key.ok ? 'no options here' : key.problem })
  }
  return { keys, problems }
}
