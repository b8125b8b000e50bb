import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import type { MaterialError } from '../../../src/pki/errors.ts'
import { loadPsks } from '../../../src/pki/psk.ts'
import { temporaryFolder } from './workshop.ts'

const KEY = '00112233445566778899aabbccddeeff'

function keyFile(text: string | Uint8Array, mode = 0o600): string {
  const file = join(temporaryFolder(), 'keys.psk')
  writeFileSync(file, text)
  chmodSync(file, mode)
  return file
}

function failure(file: string): MaterialError {
  try {
    loadPsks(file)
  } catch (error) {
    return error as MaterialError
  }
  throw new Error('nothing was wrong')
}

describe('loadPsks', () => {
  it('reads what psktool writes, names in hexadecimal digits, comments and empty lines', () => {
    const text = `# the lab\n\nalice:${KEY}\r\nhost:8:${KEY.toUpperCase()}00\n#5a6fc3ab:${KEY}\n`
    const { keys, warnings } = loadPsks(keyFile(text))
    expect([...keys].map(([name, key]) => [name, key.toString('hex')])).toEqual([
      ['alice', KEY],
      ['host:8', `${KEY}00`],
      ['Zoë', KEY],
    ])
    expect(warnings).toEqual([])
  })

  it.each([
    ['alice', 'a line is NAME:HEX, as psktool writes it'],
    [`:${KEY}`, 'the name is missing'],
    [`a\u001b[2Jb:${KEY}`, 'the name has control characters in it, or is not UTF-8'],
    [`#00616c696365:${KEY}`, 'the name has control characters in it, or is not UTF-8'],
    [`#ff:${KEY}`, 'the name has control characters in it, or is not UTF-8'],
    [`${'a'.repeat(129)}:${KEY}`, 'the name is longer than 128 bytes'],
    [`alice:${KEY}0`, 'the key is not pairs of hexadecimal digits'],
    [`alice:${KEY}xy`, 'the key is not pairs of hexadecimal digits'],
    [`alice:${KEY.slice(2)}`, 'the key has 15 bytes: it needs 16, and psktool makes 32'],
    ['alice:', 'the key has 0 bytes: it needs 16, and psktool makes 32'],
    [`alice:${'00'.repeat(257)}`, 'the key is longer than 256 bytes'],
    [`bob:${KEY}`, 'line 2 has a key of this name already'],
  ])('names the line of %j, and does not quote it', (line, sentence) => {
    const file = keyFile(`# keys\nbob:${KEY}\n${line}\n`)
    expect(failure(file)).toMatchObject({ code: 'BAD_PSK', file, message: `${file}:3: ${sentence}` })
    expect(failure(file).message).not.toContain(KEY.slice(2))
  })

  it('takes a file without a key for a mistake', () => {
    expect(failure(keyFile('# none\n')).message).toContain('holds no key')
  })

  it('refuses a file that everybody may read, and warns of one that a group may', () => {
    const open = keyFile(`alice:${KEY}\n`, 0o644)
    expect(failure(open)).toMatchObject({
      code: 'EXPOSED',
      message: `${open}: everybody may read the keys (mode 0644): chmod 600 it`,
    })
    const shared = keyFile(`alice:${KEY}\n`, 0o640)
    expect(loadPsks(shared).warnings).toEqual([`${shared}: others may read the keys (mode 0640): chmod 600 it`])
  })
})
