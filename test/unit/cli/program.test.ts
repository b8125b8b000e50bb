import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Command } from 'commander'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { program, run } from '../../../src/cli/program.ts'
import { parseConfig } from '../../../src/config/load.ts'
import { isNative } from '../../../src/doors/ssh2.ts'
import { VERSION } from '../../../src/observe/version.ts'

interface Ran {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** Runs `nbdgate ARGS` in this process. `check` leaves its verdict in process.exitCode, which has to be put back. */
async function nbdgate(...args: string[]): Promise<Ran> {
  const [stdout, stderr]: [string[], string[]] = [[], []]
  const out = vi.spyOn(process.stdout, 'write').mockImplementation(text => stdout.push(String(text)) > 0)
  const err = vi.spyOn(process.stderr, 'write').mockImplementation(text => stderr.push(String(text)) > 0)
  const before = process.exitCode
  process.exitCode = undefined
  try {
    const code = await run(['node', 'nbdgate', ...args])
    return { code, stdout: stdout.join(''), stderr: stderr.join('') }
  } finally {
    process.exitCode = before
    out.mockRestore()
    err.mockRestore()
  }
}

let dir = ''
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'nbdgate-cli-'))
})
afterEach(() => rmSync(dir, { recursive: true, force: true }))

function configure(text: string): string {
  const file = join(dir, 'nbdgate.yaml')
  writeFileSync(file, text)
  return file
}

describe('nbdgate', () => {
  it('has the version of package.json', async () => {
    const manifest: unknown = JSON.parse(readFileSync(new URL('../../../package.json', import.meta.url), 'utf8'))
    expect(manifest).toMatchObject({ version: VERSION })
    const note = isNative() ? '' : ' (ssh without its native cipher: slow)'
    expect(await nbdgate('--version')).toEqual({ code: 0, stdout: `${VERSION}${note}\n`, stderr: '' })
  })

  it.each([[['--help']], [['serve', '--help']], [['certs', 'client', '--help']]])(
    '%j prints help, exit 0',
    async args => {
      const { code, stdout, stderr } = await nbdgate(...args)
      expect([code, stderr]).toEqual([0, ''])
      expect(stdout).toContain(`Usage: nbdgate ${args.slice(0, -1).join(' ')}`.trim())
    },
  )

  it.each([
    [['--bogus'], '--bogus'],
    [['serve', '--config', 'x', '--bogus'], '--bogus'],
    [['certs', 'init', '--bogus'], '--bogus'],
    [['certs', 'init', '--days', 'never'], 'a number of days'],
    [['explode'], 'explode'],
    [['serve'], '--config'],
    [['check'], 'file'],
    [['probe'], 'uri'],
  ])('%j is a usage error: exit 2, and it says what', async (args, what) => {
    const { code, stdout, stderr } = await nbdgate(...args)
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toContain(what)
  })
})

describe('a configuration', () => {
  it.each([
    ['serve', '--config'],
    ['check', undefined],
  ])('that is not there ends %s with 2 and a line that names it', async (command, option) => {
    const file = join(dir, 'absent.yaml')
    const { code, stderr } = await nbdgate(...[command, option, file].filter(arg => arg !== undefined))
    expect(code).toBe(2)
    expect(stderr).toBe(`${file}:1:1: this can not be read: there is no such file\n`)
  })

  it('with problems ends check with 2 and all of them, each with line and column', async () => {
    const file = configure('version: 2\ndoors: []\nexports: []\n')
    const { code, stdout, stderr } = await nbdgate('check', file)
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toContain(`${file}:1:10: `)
    expect(stderr).toContain(`${file}:2:8: `)
  })

  it('without problems ends check with 0 and says so on standard output', async () => {
    const file = configure('version: 1\ndoors: [{ unix: nbd.sock }]\nexports: []\n')
    expect(await nbdgate('check', file)).toEqual({
      code: 0,
      stdout: `${file}: fine: 1 door, 0 exports\n`,
      stderr: '',
    })
  })

  it('is checked for programs too: problems with their places, or what is there, as JSON', async () => {
    const bad = await nbdgate('check', '--json', configure('version: 2\ndoors: []\nexports: []\n'))
    expect([bad.code, bad.stderr]).toEqual([2, ''])
    expect(JSON.parse(bad.stdout)).toMatchObject({
      problems: [
        { line: 1, column: 10 },
        { line: 2, column: 8 },
      ],
    })
    const good = await nbdgate('check', configure('version: 1\ndoors: [{ unix: nbd.sock }]\nexports: []\n'), '--json')
    expect(good.code).toBe(0)
    expect(JSON.parse(good.stdout)).toMatchObject({ problems: [], warnings: [], doors: ['unix'], exports: [] })
  })

  it('that names a certificate which is not there ends check and serve with 2 and its path', async () => {
    const door = '{ tls: "127.0.0.1:0", cert: gone.pem, key: gone.key, client-cert: optional }'
    const file = configure(`version: 1\nlog: { level: error }\ndoors: [${door}]\nexports: []\n`)
    for (const args of [
      ['check', file],
      ['serve', '--config', file],
    ]) {
      const { code, stderr } = await nbdgate(...args)
      expect(code).toBe(2)
      expect(stderr).toContain(`${join(dir, 'gone.pem')}: there is no such file`)
    }
  })

  it('that names an authority for an upstream which is not there ends check and serve with 2 and its path', async () => {
    const upstream = '{ uri: "nbds://localhost/disk", ca: gone.pem }'
    const file = configure(`version: 1\ndoors: [{ unix: nbd.sock }]\nexports: [{ name: a, upstream: ${upstream} }]\n`)
    for (const args of [
      ['check', file],
      ['serve', '--config', file],
    ]) {
      const { code, stderr } = await nbdgate(...args)
      expect(code).toBe(2)
      expect(stderr).toContain(`${join(dir, 'gone.pem')}: there is no such file`)
    }
  })

  it('whose door can not be opened ends serve with 1: the file is right, the host is not', async () => {
    const file = configure('version: 1\nworkers: 1\ndoors: [{ unix: nbdgate.yaml }]\nexports: []\n')
    const { code, stderr } = await nbdgate('serve', '--config', file)
    expect(code).toBe(1)
    expect(stderr).toBe(`nbdgate: can not listen on ${file}: there is a file that is no socket\n`)
  })
})

describe('an export for door tcp', () => {
  const problemsOf = (mode: string): string => {
    const door = `{ tls: "127.0.0.1:0", mode: ${mode}, cert: a.pem, key: a.key, client-cert: optional }`
    const entry = '{ name: a, upstream: nbd://127.0.0.1/a, doors: [tcp] }'
    try {
      parseConfig(`version: 1\ndoors: [${door}]\nexports: [${entry}]\n`, 'nbdgate.yaml')
      return ''
    } catch (error) {
      return String(error)
    }
  }

  it('can be reached by plaintext visitors of a selective TLS door, and not of a forced one', () => {
    expect(problemsOf('selective')).toBe('')
    expect(problemsOf('forced')).toContain('there is no tcp door that could lead here')
  })
})

describe('nbdgate probe', () => {
  it.each([
    ['http://127.0.0.1/', 'http:// is not one of nbd://'],
    ['nbds+ssh://host/disk', 'nbds+ssh:// is not in this version'],
    ['disk', 'this is not an NBD URI'],
  ])('takes %s for a usage error', async (uri, what) => {
    const { code, stdout, stderr } = await nbdgate('probe', uri)
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toContain(what)
  })

  it('ends with 1 when nobody answers', async () => {
    const { code, stderr } = await nbdgate('probe', `nbd+unix:///?socket=${join(dir, 'absent.sock')}`)
    expect(code).toBe(1)
    expect(stderr).toContain('ENOENT')
  })
})

describe('--json', () => {
  it('is there wherever a command answers and ends', () => {
    const others = new Set(['serve', 'inetd', 'connect', 'demo', 'bash', 'zsh', 'fish', 'completion'])
    const commandsOf = (command: Command): readonly Command[] =>
      command.commands.length === 0 ? [command] : command.commands.flatMap(commandsOf)
    const without = commandsOf(program())
      .filter(command => !command.options.some(({ long }) => long === '--json'))
      .map(command => command.name())
    expect(without.filter(name => !others.has(name))).toEqual([])
  })
})
