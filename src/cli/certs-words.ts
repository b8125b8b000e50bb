// What the commands of `nbdgate certs` share: how they read a number of days, and how they print.
import { InvalidArgumentError } from 'commander'
import { certificateFacts } from '../pki/certificate-facts.ts'
import { loadCertificates } from '../pki/material.ts'

/** The parser of `--days`. @throws InvalidArgumentError */
export function parseDays(text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new InvalidArgumentError('a number of days, 1 or more.')
  return Number(text)
}

/** What a certificate says was written by others: nothing of it may steer the terminal. */
export function printable(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, character => `\\u{${character.codePointAt(0)?.toString(16)}}`)
}

/** Prints lines. */
export function print(...lines: string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`)
}

/** A certificate that was made and its key, as `--json` prints them. */
export interface Made {
  readonly subject: string
  /** Hexadecimal digits. */
  readonly serial: string
  readonly notAfter: string
  readonly cert: string
  readonly key: string
}

/** What was written to these files. @throws MaterialError */
export function madeOf({ cert, key }: { readonly cert: string; readonly key: string }): Made {
  const [certificate] = loadCertificates(cert)
  const { subject, serial } = certificateFacts(certificate)
  return { subject, serial, notAfter: new Date(certificate.validTo).toISOString(), cert, key }
}
