import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { loadToken, TokenError } from '../../../src/admin/token.ts'

const dir = mkdtempSync(join(tmpdir(), 'nbdgate-token-'))
afterAll(() => rmSync(dir, { recursive: true, force: true }))

function file(text: string): string {
  const path = join(dir, 'token')
  writeFileSync(path, text)
  return path
}

it('takes the first line for the token, and nothing else for it', () => {
  const check = loadToken(file('0123456789abcdef\nanother line\n'))
  expect(['Bearer 0123456789abcdef', 'bearer  0123456789abcdef'].map(check)).toEqual([true, true])
  const wrong = [
    '0123456789abcdef',
    'Bearer 0123456789abcde',
    'Bearer 0123456789abcdefg',
    'Bearer ',
    'Bearer another line',
    '',
  ]
  expect([...wrong, undefined].map(check)).toEqual(Array.from({ length: 7 }, () => false))
})

it.each([
  ['', /its first line is not a token/],
  ['\n0123456789abcdef\n', /its first line is not a token/],
  ['0123456789abcdé\n', /its first line is not a token/],
  ['two words and more\n', /its first line is not a token/],
  ['short\n', /at least 16 characters/],
])('refuses %j', (text, message) => {
  expect(() => loadToken(file(text))).toThrow(message)
})

it('says so when there is no such file', () => {
  expect(() => loadToken(join(dir, 'absent'))).toThrow(TokenError)
})
