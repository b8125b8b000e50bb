import { generateKeyPairSync } from 'node:crypto'
import { appendFileSync, readFileSync, statSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { encodeRecord, GENESIS } from '../../../src/observe/trail-record.ts'
import { nbdgate } from '../../support/cli.ts'
import { tempFolder, trailLines, written } from '../observe/trail.ts'

const dir = tempFolder()
const lines = trailLines([{ who: 'cert:cn=alice', proof: { by: 'certificate' } }, { who: 'a "b"', n: 2 }, { n: 3 }])
const trail = (content = lines.join('')) => written(dir.path('audit.jsonl'), content)

function keys(): { readonly key: string; readonly pub: string } {
  const { privateKey, publicKey } = generateKeyPairSync('ed25519')
  return {
    key: written(dir.path('seal.key'), privateKey.export({ type: 'pkcs8', format: 'pem' })),
    pub: written(dir.path('seal.pub'), publicKey.export({ type: 'spki', format: 'pem' })),
  }
}

describe('nbdgate audit verify', () => {
  it('says that a trail is intact; exit 0', async () => {
    const file = trail()
    expect(await nbdgate('audit', 'verify', file)).toEqual({
      code: 0,
      stdout: `${file}: intact: 3 records, 1 to 3\n`,
      stderr: '',
    })
  })

  it('names the line that was changed; exit 1', async () => {
    const file = trail(lines.join('').replace('alice', 'carol'))
    const { code, stdout } = await nbdgate('audit', 'verify', file)
    expect(code).toBe(1)
    expect(stdout).toBe(
      `${file}:1: this is no record, or it was changed\n${file}: broken at 1 lines: 2 records, 2 to 3\n`,
    )
  })

  it('reports a torn line, which is no crime; exit 0', async () => {
    const file = trail(lines.join('').slice(0, -9))
    const { code, stdout } = await nbdgate('audit', 'verify', file)
    expect(code).toBe(0)
    expect(stdout).toMatch(/:3: torn: \d+ bytes of a record that was not finished\n.*intact: 2 records/)
  })

  it('prints facts as JSON', async () => {
    const { stdout } = await nbdgate('audit', 'verify', '--json', trail(lines.slice(1).join('')))
    expect(JSON.parse(stdout)).toMatchObject({ intact: false, records: 2, findings: [{ kind: 'broken', line: 1 }] })
  })

  it('takes several files in their order', async () => {
    const [first, second] = [written(dir.path('1'), lines.slice(0, 2).join('')), written(dir.path('2'), lines[2] ?? '')]
    expect((await nbdgate('audit', 'verify', first, second)).code).toBe(0)
    expect((await nbdgate('audit', 'verify', second, first)).code).toBe(1)
  })

  it('ends with 2 when a file is not there or a key is none', async () => {
    expect(await nbdgate('audit', 'verify', dir.path('absent'))).toMatchObject({ code: 2, stdout: '' })
    const { code, stderr } = await nbdgate('audit', 'verify', '--key', trail(), trail())
    expect(code).toBe(2)
    expect(stderr).toContain('an Ed25519 public key in PEM is needed')
  })
})

describe('nbdgate audit show', () => {
  it('prints a line for each record', async () => {
    const { code, stdout } = await nbdgate('audit', 'show', trail())
    expect(code).toBe(0)
    expect(stdout.split('\n')).toEqual([
      '1 1970-01-01T00:00:00.000Z session opened: who=cert:cn=alice proof=(by=certificate)',
      '2 1970-01-01T00:00:01.000Z session opened: who="a \\"b\\"" n=2',
      '3 1970-01-01T00:00:02.000Z session opened: n=3',
      '',
    ])
  })

  it('prints one JSON array', async () => {
    const { stdout } = await nbdgate('audit', 'show', '--json', trail())
    expect(JSON.parse(stdout)).toMatchObject([{ seq: 1, who: 'cert:cn=alice' }, { seq: 2 }, { seq: 3, n: 3 }])
    expect((await nbdgate('audit', 'show', '--json', trail(''))).stdout).toBe('[]\n')
  })

  it('shows what can be read, and says what can not; exit 1', async () => {
    const file = trail(`${lines[0]}junk\n${lines[1]}`)
    const { code, stdout, stderr } = await nbdgate('audit', 'show', file)
    expect(code).toBe(1)
    expect(stdout.split('\n')).toHaveLength(3)
    expect(stderr).toBe(`${file}:2: this is no record, or it was changed\n`)
  })

  it('lets no text of a record steer the terminal', async () => {
    const { line } = encodeRecord(GENESIS, {
      time: '\u001b[2J',
      kind: 'session opened',
      facts: { who: '\u001b]0;x\u0007\u202e' },
    })
    const { stdout } = await nbdgate('audit', 'show', trail(line.toString()))
    for (const char of ['\u001b', '\u0007', '\u202e']) expect(stdout).not.toContain(char)
  })
})

describe('nbdgate audit seal', () => {
  it('signs the last record, beside the trail and on standard output', async () => {
    const { key, pub } = keys()
    const file = trail()
    const { code, stdout } = await nbdgate('audit', 'seal', '--key', key, file)
    expect(code).toBe(0)
    expect(readFileSync(dir.path('audit.seals'), 'utf8')).toBe(stdout)
    expect(statSync(dir.path('audit.seals')).mode & 0o777).toBe(0o600)
    const verified = await nbdgate('audit', 'verify', '--key', pub, file)
    expect(verified).toMatchObject({ code: 0, stdout: `${file}: intact: 3 records, 1 to 3, signed up to 3\n` })
    const unchecked = await nbdgate('audit', 'verify', file)
    expect(unchecked.stdout).toContain('sealed (signatures not checked: --key) up to 3')
  })

  it('finds a trail that was cut short since', async () => {
    const { key, pub } = keys()
    await nbdgate('audit', 'seal', '--key', key, '--seals', dir.path('elsewhere'), trail())
    const file = trail(lines.slice(0, 2).join(''))
    const { code, stdout } = await nbdgate('audit', 'verify', '--key', pub, '--seals', dir.path('elsewhere'), file)
    expect(code).toBe(1)
    expect(stdout).toContain(`${dir.path('elsewhere')}:1: record 3 was sealed, and is not there\n`)
  })

  it('takes no broken trail, no empty one, and no key of another kind', async () => {
    const { key } = keys()
    const broken = await nbdgate('audit', 'seal', '--key', key, trail(lines.slice(1).join('')))
    expect(broken).toMatchObject({
      code: 1,
      stdout: '',
      stderr: expect.stringContaining('a broken trail is not sealed'),
    })
    expect((await nbdgate('audit', 'seal', '--key', key, trail(''))).code).toBe(1)
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const ec = written(dir.path('ec.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }))
    expect((await nbdgate('audit', 'seal', '--key', ec, trail())).code).toBe(2)
    expect((await nbdgate('audit', 'seal', '--key', dir.path('absent'), trail())).code).toBe(2)
  })

  it('goes on where a torn line is, and covers what is whole', async () => {
    const { key } = keys()
    const file = trail()
    appendFileSync(file, '{"seq":4,"ti')
    const { stdout } = await nbdgate('audit', 'seal', '--key', key, file)
    expect(JSON.parse(stdout)).toMatchObject({ seq: 3 })
  })
})
