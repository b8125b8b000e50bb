/**
 * The manual pages, made from what `--help` and the schema say: config/man/nbdgate.1 from commander's tree and
 * config/man/nbdgate.yaml.5 from the JSON schema. A test writes them (UPDATE_MAN=1) and holds them to their source.
 */
import type { Argument, Option } from 'commander'
import { allCommands, type CommandAt } from '../../src/cli/command-tree.ts'

/** Moves with the version: a page does not change from day to day. */
const DATE = '2026-11-25'

/** nbdgate(1). */
export function commandPage(root: CommandAt, version: string): string {
  const leaves = allCommands(root).filter(({ children }) => children.length === 0)
  return page([
    title('NBDGATE', 1, version),
    '.SH NAME',
    `nbdgate \\- ${roff(root.command.description())}`,
    '.SH SYNOPSIS',
    '.B nbdgate',
    '.I command',
    '.RI [ options ]',
    '.SH DESCRIPTION',
    ...DESCRIPTION,
    '.SH COMMANDS',
    ...leaves.flatMap(commandLines),
    '.SH EXIT STATUS',
    ...tagged('0', 'Fine.'),
    ...tagged('1', 'It failed; for questions (explain, audit verify, doctor): the answer is no.'),
    ...tagged('2', 'Usage, configuration, or key material that can not be used.'),
    '.SH ENVIRONMENT',
    ...tagged('NO_COLOR', 'No colours, whatever standard output is. Without a terminal there are none anyway.'),
    ...tagged('SSH_AUTH_SOCK', 'The agent that logs in to nbd+ssh:// upstreams.'),
    '.SH EXAMPLES',
    '.EX',
    ...EXAMPLES.map(roff),
    '.EE',
    '.SH SEE ALSO',
    '.BR nbdgate.yaml (5),',
    '.BR nbd\\-server (1),',
    '.BR nbdkit (1),',
    '.BR qemu\\-nbd (8),',
    '.BR nbd\\-client (8)',
  ])
}

const DESCRIPTION = [
  'nbdgate stands in front of an unmodified NBD server, ends TLS or SSH, names',
  'the visitor by certificate or key, decides for each export what that visitor',
  'may do, and relays the rest.',
  'Facts go to standard output, the log to standard error, as JSON lines.',
  'Each command has',
  '.BR \\-\\-help .',
]

const EXAMPLES = [
  'nbdgate certs init',
  'nbdgate certs server gw.example.com',
  'nbdgate certs client alice',
  'nbdgate check /etc/nbdgate/nbdgate.yaml',
  'nbdgate doctor --config /etc/nbdgate/nbdgate.yaml',
  'nbdgate serve --config /etc/nbdgate/nbdgate.yaml',
]

function commandLines({ path, command, options }: CommandAt): readonly string[] {
  const words = command.registeredArguments.map(argumentWord).join(' ')
  return [
    `.SS "${roff(path)}"`,
    `.B nbdgate ${roff(path)}`,
    words === '' ? '.RI [ options ]' : `.RI [ options "] ${roff(words)}"`,
    '.PP',
    sentence(command.description()),
    ...command.registeredArguments.flatMap(each => tagged(argumentWord(each), each.description, 'I')),
    ...options.filter(({ long }) => long !== '--help').flatMap(optionLines),
  ]
}

function argumentWord(argument: Argument): string {
  return `${argument.name()}${argument.variadic ? '...' : ''}`
}

function optionLines(option: Option): readonly string[] {
  const notes = [
    ...(option.mandatory ? ['required'] : []),
    ...(option.argChoices === undefined ? [] : [`one of ${option.argChoices.join(', ')}`]),
    ...(typeof option.defaultValue === 'string' ? [`default: ${option.defaultValue}`] : []),
  ]
  return tagged(option.flags, `${option.description}${notes.length === 0 ? '' : ` (${notes.join('; ')})`}`)
}

/** What of a JSON schema is read here. */
type Schema = Readonly<Record<string, unknown>>

interface Key {
  readonly at: string
  readonly schema: Schema
  readonly required: boolean
}

/** nbdgate.yaml(5). `example` is a configuration to show. */
export function configPage(schema: Schema, version: string, example: string): string {
  const keys = unique(keysOf(schema, '').filter(({ at }) => at !== '$schema'))
  const chapters = new Map<string, Key[]>()
  for (const key of keys) {
    const chapter = key.at.split(/[.[]/)[0] ?? ''
    chapters.set(chapter, [...(chapters.get(chapter) ?? []), key])
  }
  return page([
    title('NBDGATE.YAML', 5, version),
    '.SH NAME',
    'nbdgate.yaml \\- configuration of nbdgate',
    '.SH DESCRIPTION',
    'The file is YAML. A key that is not known is an error, and',
    '.B nbdgate check',
    'reports every problem at once, as file:line:column.',
    'Paths are relative to the file, times are written 10s or 5m, sizes 64MiB,',
    'rates 200MB/s. A list is written with [] here: doors[].tls is the key tls of',
    'each entry of doors.',
    '.SH KEYS',
    ...[...chapters].flatMap(([name, all]) => [`.SS ${roff(name)}`, ...all.flatMap(keyLines)]),
    '.SH EXAMPLE',
    '.EX',
    ...example.trimEnd().split('\n').map(roff),
    '.EE',
    '.SH SEE ALSO',
    '.BR nbdgate (1)',
  ])
}

function keyLines({ at, schema, required }: Key): readonly string[] {
  const values = [schema, ...listOf(schema, 'anyOf')].flatMap(each => (Array.isArray(each.enum) ? each.enum : []))
  const notes = [
    ...(required ? ['required'] : []),
    ...(values.length > 0 ? [`one of ${values.join(', ')}`] : []),
    ...(['string', 'number', 'boolean'].includes(typeof schema.default) ? [`default: ${String(schema.default)}`] : []),
  ]
  const text = typeof schema.description === 'string' ? schema.description : ''
  const note = notes.join('; ')
  return tagged(at, [text, ...(note === '' ? [] : [`${note[0]?.toUpperCase()}${note.slice(1)}.`])].join(' ').trim())
}

function keysOf(schema: Schema, path: string): readonly Key[] {
  const properties = isSchema(schema.properties) ? Object.entries(schema.properties) : []
  const required: readonly unknown[] = Array.isArray(schema.required) ? schema.required : []
  const own = properties.flatMap(([name, value]) => {
    const at = path === '' ? name : `${path}.${name}`
    if (!isSchema(value)) return []
    return [{ at, schema: value, required: required.includes(name) }, ...keysOf(value, at)]
  })
  const choices = ['anyOf', 'oneOf', 'allOf'].flatMap(name => listOf(schema, name))
  const items = isSchema(schema.items) ? keysOf(schema.items, `${path}[]`) : []
  return [...own, ...choices.flatMap(choice => keysOf(choice, path)), ...items]
}

/** A key of several kinds of doors is said once. */
function unique(keys: readonly Key[]): readonly Key[] {
  const texts = keys.map(key => keyLines(key).join('\n'))
  return keys.filter((_, at) => texts.indexOf(texts[at] ?? '') === at)
}

function listOf(schema: Schema, name: string): readonly Schema[] {
  const list = schema[name]
  return Array.isArray(list) ? list.filter(isSchema) : []
}

function isSchema(value: unknown): value is Schema {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function title(name: string, section: number, version: string): string {
  return `.TH ${name} ${section} "${DATE}" "nbdgate ${version}" "nbdgate"`
}

function tagged(tag: string, text: string, font = 'B'): readonly string[] {
  return ['.TP', `.${font} "${roff(tag)}"`, text === '' ? '\\&' : sentence(text)]
}

/** A capital, a full stop. */
function sentence(text: string): string {
  const first = text.split(/[\s:,=]/)[0] ?? ''
  const isWord = /^[a-z]+$/.test(first) && !/[:=]/.test(text.charAt(first.length))
  const whole = isWord ? text.charAt(0).toUpperCase() + text.slice(1) : text
  return folded(roff(/[.!?]$/.test(whole) ? whole : `${whole}.`))
}

const CHARACTERS: Readonly<Record<string, string>> = {
  '\\': '\\e',
  '"': '\\(dq',
  '-': '\\-',
  '`': '\\(ga',
  '’': '\\(cq',
}

/** One line of text for roff. */
function roff(text: string): string {
  const line = text.replace(/[\\"`’-]|[^\x20-\x7e]/g, character => {
    const code = character.codePointAt(0) ?? 0
    return CHARACTERS[character] ?? `\\[u${code.toString(16).toUpperCase().padStart(4, '0')}]`
  })
  return /^[.']/.test(line) ? `\\&${line}` : line
}

/** In lines of less than 80 bytes, none of which could be taken for a request. */
function folded(text: string): string {
  return text.replace(/(.{1,76})(?: (?![.'])|$)/g, '$1\n').trimEnd()
}

function page(lines: readonly string[]): string {
  return `.\\" Made from the program's own words; do not edit: UPDATE_MAN=1 npx vitest run --project unit man\n${lines.join('\n')}\n`
}
