// What the commands of `nbdgate certs` share: how they read a number of days, and how they print.
import { InvalidArgumentError } from 'commander'

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
