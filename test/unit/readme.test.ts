import { existsSync, readdirSync, readFileSync } from 'node:fs'
import type { Command } from 'commander'
import { describe, expect, it } from 'vitest'
import { program } from '../../src/cli/program.ts'
import { jsonSchema } from '../../src/config/json-schema.ts'
import { parseConfig } from '../../src/config/load.ts'
import { whoProblem } from '../../src/policy/who.ts'

const root = new URL('../../', import.meta.url)
const readme = readFileSync(new URL('README.md', root), 'utf8')

/** The text of one chapter, `## TITLE` up to the next one. */
function chapter(title: string): string {
  const text = readme.split(/^## /m).find(each => each.startsWith(`${title}\n`))
  if (text === undefined) throw new Error(`README has no chapter "${title}"`)
  return text
}

/** What the first cells of a chapter's tables name, each in backticks. */
function firstCells(title: string): string[] {
  const cells = [...chapter(title).matchAll(/^\| (`[^|]+) \|/gm)].map(match => match[1] ?? '')
  return cells.flatMap(cell => [...cell.matchAll(/`([^`]+)`/g)].map(match => match[1] ?? ''))
}

function commands(command: Command, path: string): { readonly path: string; readonly command: Command }[] {
  return [{ path, command }, ...command.commands.flatMap(child => commands(child, `${path} ${child.name()}`))]
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** Every key of a JSON schema: `log.level`, `doors[].tls`. */
function keysOf(schema: unknown, path = ''): string[] {
  if (!isRecord(schema)) return []
  const properties = isRecord(schema.properties) ? Object.entries(schema.properties) : []
  const own = properties.flatMap(([key, value]) => {
    const at = path === '' ? key : `${path}.${key}`
    return [at, ...keysOf(value, at)]
  })
  const choices = [schema.anyOf, schema.oneOf, schema.allOf].flatMap(list => (Array.isArray(list) ? list : []))
  return [...own, ...choices.flatMap(choice => keysOf(choice, path)), ...keysOf(schema.items, `${path}[]`)]
}

describe("README's commands", () => {
  const all = commands(program(), 'nbdgate')

  it.each(all.filter(({ command }) => command.commands.length === 0).map(({ path }) => path))('name %s', path => {
    expect(firstCells('Commands').some(cell => cell === path || cell.startsWith(`${path} `))).toBe(true)
  })

  const options = all.flatMap(({ command }) => command.options.flatMap(({ short, long }) => [short, long]))
  it.each([...new Set(options.filter(option => option !== undefined))])('name the option %s', option => {
    const named = [...chapter('Commands').matchAll(/`([^`]+)`/g)].flatMap(match => (match[1] ?? '').split(' '))
    expect(named).toContain(option)
  })

  it('name no option that there is not', () => {
    const known = new Set([...options, '--help'])
    const named = [...chapter('Commands').matchAll(/(?<![\w-])--[a-z][a-z-]*/g)].map(match => match[0])
    expect(named.filter(option => !known.has(option))).toEqual([])
  })

  it('name how to start and how to test', () => {
    expect(readme).toMatch(/^npm start\b/m)
    expect(readme).toMatch(/^npm test\b/m)
  })
})

describe("README's configuration reference", () => {
  it('has a row for each key of the schema, and none for another', () => {
    const keys = [...new Set(keysOf(jsonSchema()))].filter(key => key !== '$schema')
    const rows = [...chapter('Configuration reference').matchAll(/^\| `([^`]+)` \|/gm)].map(match => match[1])
    expect(keys.length).toBeGreaterThan(30)
    expect(rows.toSorted()).toEqual(keys.toSorted())
  })
})

describe("README's defaults", () => {
  /** Each key that the schema has a plain default for. */
  function defaultsOf(schema: unknown, path = ''): (readonly [key: string, value: string])[] {
    if (!isRecord(schema)) return []
    const properties = isRecord(schema.properties) ? Object.entries(schema.properties) : []
    const own = properties.flatMap(([key, value]) => {
      const at = path === '' ? key : `${path}.${key}`
      const plain = isRecord(value) ? value.default : undefined
      const isTold = ['string', 'number', 'boolean'].includes(typeof plain) && plain !== ''
      return [...(isTold ? [[at, String(plain)] as const] : []), ...defaultsOf(value, at)]
    })
    const choices = [schema.anyOf, schema.oneOf, schema.allOf].flatMap(list => (Array.isArray(list) ? list : []))
    return [...own, ...choices.flatMap(choice => defaultsOf(choice, path)), ...defaultsOf(schema.items, `${path}[]`)]
  }

  it('are those of the schema', () => {
    const cells = new Map(
      [...chapter('Configuration reference').matchAll(/^\| `([^`]+)` \| (.*?) \|/gm)].map(([, key, cell]) => [
        key,
        cell,
      ]),
    )
    const defaults = [...new Map(defaultsOf(jsonSchema()).map(each => [each.join(' '), each])).values()]
    expect(defaults.length).toBeGreaterThan(20)
    const wrong = defaults.filter(([key, value]) => {
      const words = (cells.get(key) ?? '').split(/[\s:,]+/).map(word => word.replace(/^[`"]+|[`"]+$/g, ''))
      return !words.includes(value)
    })
    expect(wrong).toEqual([])
  })
})

describe("README's configurations", () => {
  const blocks = [...readme.matchAll(/^```yaml\n(version: 1\n[\s\S]*?)^```$/gm)].map(match => match[1] ?? '')

  it('are there', () => {
    expect(blocks.length).toBeGreaterThanOrEqual(6)
  })

  it.each(blocks.map((text, index) => ({ text, number: index + 1 })))('number $number loads', ({ text }) => {
    expect(parseConfig(text, 'nbdgate.yaml', { validateWho: whoProblem }).exports).not.toEqual([])
  })

  it('are all of its yaml: nothing of that kind escapes the test above', () => {
    expect(blocks).toHaveLength([...readme.matchAll(/^```ya?ml/gm)].length)
  })
})

describe("README's log lines", () => {
  /** Messages as the source has them: in a call of the log, literals that are neither fields nor compared with. */
  function messages(): string[] {
    const files = readdirSync(new URL('src/', root), { recursive: true, encoding: 'utf8' })
    const lines = files
      .filter(file => file.endsWith('.ts'))
      .flatMap(file => {
        return readFileSync(new URL(`src/${file}`, root), 'utf8').split('\n')
      })
    const calls = lines.filter(line => /\blog(\.(debug|info|warn|error)|\[level\])\(/.test(line))
    return calls.flatMap(line =>
      [...line.matchAll(/(?<!(?:reason:|===) )'([a-z][a-z ]+)'/g)].map(match => match[1] ?? ''),
    )
  }

  it('name each message of the source', () => {
    const known = [...new Set(messages())]
    expect(known).toEqual(expect.arrayContaining(['gateway ready', 'session opened', 'draining', 'bug']))
    const named = firstCells('Log lines')
    expect(known.filter(message => !named.includes(message))).toEqual([])
  })
})

describe("README's troubleshooting", () => {
  const read = (file: string) => readFileSync(new URL(`src/${file}`, root), 'utf8')
  const files = readdirSync(new URL('src/', root), { recursive: true, encoding: 'utf8' })
  const all = (text: string, pattern: RegExp) => [...text.matchAll(pattern)].map(match => match[1] ?? '')
  /** What the chapter has in backticks. */
  const named = new Set(all(chapter('Troubleshooting'), /`([^`]+)`/g))
  /** What comes in a message behind the part that is always the same. */
  const isNamed = (message: string) =>
    named.has(message) || [...named].some(each => each.endsWith('…') && message.startsWith(each.slice(0, -1)))

  it('has each code of an error', () => {
    const texts = files.filter(file => /(^|\/)errors\.ts$/.test(file)).map(read)
    const unions = texts.flatMap(text => all(text, /^export type \w+(?:Code|Reason) =((?:.*\n)+?)(?=\n)/gm))
    const codes = [
      ...unions.flatMap(union => all(union.replace(/\/\*\*.*\*\//g, ''), /'([^']+)'/g)),
      ...texts.flatMap(text => all(text, /readonly code = '([A-Z]+)'/g)),
    ]
    expect(codes).toEqual(expect.arrayContaining(['DIAL', 'BAD_MAGIC', 'TIMEOUT', 'KEY_MISMATCH', 'TLS', 'wrong key']))
    expect(codes.filter(code => !named.has(code))).toEqual([])
  })

  it('has each reply that a client can get, and its text', () => {
    const calls = files
      .filter(file => /^(negotiation|gateway)\/.*\.ts$/.test(file))
      .flatMap(file => [...read(file).matchAll(/\brefus(?:al|e)\([^;\n]*?Rep\.(ERR_\w+)[^;\n]*?, ['`]([^'`$]+)/g)])
    const told = calls.flatMap(([, reply = '', text = '']) => [reply, text.trim()])
    expect(told).toEqual(expect.arrayContaining(['ERR_UNKNOWN', 'no such export for you', 'this door has no TLS']))
    expect(told.filter(each => !isNamed(each) && !isNamed(`${each} `))).toEqual([])
  })

  it('has each reason for a no in the log', () => {
    const text = files
      .filter(file => /^(gateway|policy|doors)\/.*\.ts$/.test(file))
      .map(read)
      .join('\n')
    const reasons = [
      ...all(text, /\breason[:=] '([^']+)'/g),
      ...all(text, /\breason = '([^']+)'/g),
      ...all(text, /\b(?:prohibited|refused?)\((?:context, )?['`]([^'`$]+)/g),
      ...all(text, /\? '(sessions[a-z-]*)'|return '(?:sessions[a-z-]*)'/g).filter(each => each !== ''),
    ]
    expect(reasons).toEqual(expect.arrayContaining(['no rule', 'an unknown key', 'this key may not go there', 'busy']))
    const elsewhere = ['upstream failed'] // a line of the log of its own
    expect(reasons.filter(each => !isNamed(each.trim()) && !isNamed(each) && !elsewhere.includes(each))).toEqual([])
  })
})

describe("README's links", () => {
  it('lead to headings and files that are there', () => {
    const anchors = [...readme.matchAll(/^#+ (.*)$/gm)].map(([, title = '']) =>
      title
        .toLowerCase()
        .replace(/[^\w\- ]/g, '')
        .replaceAll(' ', '-'),
    )
    const inside = [...readme.matchAll(/\]\(#([^)]+)\)/g)].map(match => match[1] ?? '')
    expect(inside.filter(anchor => !anchors.includes(anchor))).toEqual([])
    const files = [...readme.matchAll(/\]\((?!#|https?:)([^)]+)\)/g)].map(match => match[1] ?? '')
    expect(files.filter(file => !existsSync(new URL(file, root)))).toEqual([])
  })
})
