/**
 * Options of a line of authorized_keys. What the door can not keep is a problem of that line, never ignored: a line with a
 * guard that we do not understand admits nobody.
 */
import { parseCidr } from '../config/cidr.ts'
import { type Parsed, parsed, unparsed } from '../config/parsed.ts'
import { printable } from '../protocol/strings.ts'
import type { Placed } from './key-file.ts'
import { type Target, targetOfPath, targetOfPort } from './target.ts'

/** What a line grants, and to whom. */
export interface KeyOptions {
  /** The key is an authority: its certificates log in, not the key itself. */
  readonly certAuthority: boolean
  /** For an authority: principals of which the certificate must have one. For a key: names that it may log in with. */
  readonly principals?: readonly string[]
  /** Patterns of addresses (ssh_config(5), PATTERNS). */
  readonly from?: readonly string[]
  readonly expiryMs?: number
  readonly permitOpen?: readonly Target[]
  /** False: no `-L` and no `-W`; `exec nbd` is left. */
  readonly forwarding: boolean
}

type Draft = { -readonly [K in keyof KeyOptions]: KeyOptions[K] }

/** What the door refuses anyway, or what is all that it does. */
const EMPTY_OPTIONS = [
  'restrict',
  'port-forwarding',
  'no-pty',
  'no-agent-forwarding',
  'no-x11-forwarding',
  'no-user-rc',
]

interface Option {
  readonly name: string
  readonly value: string | undefined
  readonly at: number
}

/** Reads the option text of a line; places count from `at`, where it begins. */
export function parseKeyOptions(text: string, at: number): Placed<KeyOptions> {
  const draft: Draft = { certAuthority: false, forwarding: true }
  if (text === '') return { ok: true, value: draft }
  for (const option of split(text)) {
    const result = apply(option, draft)
    if (!result.ok) return { ok: false, at: at + option.at, problem: result.problem }
  }
  return { ok: true, value: draft }
}

function apply({ name, value }: Option, draft: Draft): Parsed<true> {
  if (value === undefined && EMPTY_OPTIONS.includes(name)) return parsed(true)
  if (value === undefined && name === 'cert-authority') draft.certAuthority = true
  else if (value === undefined && name === 'no-port-forwarding') draft.forwarding = false
  else if (name === 'from' && value !== undefined) return setFrom(value, draft)
  else if (name === 'expiry-time' && value !== undefined) return setExpiry(value, draft)
  else if (name === 'permitopen' && value !== undefined) return addPermit(value, draft)
  else if (name === 'principals' && value !== undefined) return setPrincipals(value, draft)
  else return unparsed(unknown(name, value))
  return parsed(true)
}

function unknown(name: string, value: string | undefined): string {
  const shown = printable(name, 64)
  if (name === '') return 'an option is missing here'
  if (name === 'command') return 'command= is refused: no command but nbd can be run here'
  if (['from', 'expiry-time', 'permitopen', 'principals'].includes(name)) return `${shown} needs a value: ${shown}="…"`
  if (value !== undefined && [...EMPTY_OPTIONS, 'cert-authority', 'no-port-forwarding'].includes(name))
    return `${shown} has no value`
  return `the option ${shown} is not understood; a line that asks for what the door can not do admits nobody`
}

function setFrom(value: string, draft: Draft): Parsed<true> {
  if (draft.from !== undefined) return unparsed('from= stands here twice')
  const patterns = value.split(',')
  for (const pattern of patterns) {
    const bare = pattern.replace(/^!/, '')
    const problem = bare.includes('/') ? cidrProblem(bare) : addressProblem(bare)
    if (problem !== undefined) return unparsed(`from=: ${problem}`)
  }
  draft.from = patterns
  return parsed(true)
}

function cidrProblem(text: string): string | undefined {
  const cidr = parseCidr(text)
  return cidr.ok ? undefined : cidr.problem
}

/** A name would have to be looked up, and whoever answers for the address would say what it is. */
function addressProblem(text: string): string | undefined {
  if (/^[0-9a-f.:*?]+$/i.test(text) && /[.:*?\d]/.test(text)) return undefined
  return `${JSON.stringify(printable(text, 64))} is not an address or a network; host names are not looked up`
}

function setExpiry(value: string, draft: Draft): Parsed<true> {
  if (draft.expiryMs !== undefined) return unparsed('expiry-time= stands here twice')
  const expiryMs = parseExpiry(value)
  if (expiryMs === undefined) return unparsed('expiry-time= must be like 20270101 or 202701011200Z')
  draft.expiryMs = expiryMs
  return parsed(true)
}

/** `YYYYMMDD[Z]` or `YYYYMMDDHHMM[SS][Z]`; without Z the time of this machine's zone. */
function parseExpiry(text: string): number | undefined {
  const match = /^(\d{4})(\d\d)(\d\d)(?:(\d\d)(\d\d)(\d\d)?)?(Z)?$/.exec(text)
  if (match === null) return undefined
  const [year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0] = match
    .slice(1, 7)
    .map(each => Number(each ?? 0))
  const iso = `${match[1]}-${match[2]}-${match[3]}T${match[4] ?? '00'}:${match[5] ?? '00'}:${match[6] ?? '00'}Z`
  const utc = Date.parse(iso)
  // Date.parse takes the 30th of February for the 2nd of March.
  if (Number.isNaN(utc) || new Date(utc).toISOString().slice(0, 19) !== iso.slice(0, 19)) return undefined
  return match[7] === undefined ? new Date(year, month - 1, day, hour, minute, second).getTime() : utc
}

function addPermit(value: string, draft: Draft): Parsed<true> {
  const port = /^(?:\[[^\]]*\]|[^:/\s]+):(\d{1,5}|\*)$/.exec(value)?.[1]
  const target = port === undefined ? targetOfPath(value) : targetOfPort(port === '*' ? 10809 : Number(port))
  if (target === undefined)
    return unparsed('permitopen= must be "nbd:10809", "/exports" or "/exports/NAME": nothing else is here')
  draft.permitOpen = [...(draft.permitOpen ?? []), target]
  return parsed(true)
}

function setPrincipals(value: string, draft: Draft): Parsed<true> {
  if (draft.principals !== undefined) return unparsed('principals= stands here twice')
  const names = value.split(',')
  if (names.includes('')) return unparsed('principals= has an empty name')
  draft.principals = names
  return parsed(true)
}

/** Splits at commas outside quotes. `\"` stands for a quote inside of them. */
function split(text: string): readonly Option[] {
  const options: Option[] = []
  let at = 0
  while (at <= text.length) {
    const [whole = '', name = '', assigned, quoted, bare] =
      /^([^=,"]*)(=(?:"((?:\\"|[^"])*)"|([^,"]*)))?/.exec(text.slice(at)) ?? []
    const value = assigned === undefined ? undefined : (quoted?.replaceAll('\\"', '"') ?? bare)
    const rest = text[at + whole.length]
    const isEnd = rest === undefined || rest === ','
    // Something behind a closing quote, or a quote in a name: no option has such a name.
    options.push({ name: isEnd ? name.toLowerCase() : text.slice(at), value: isEnd ? value : undefined, at })
    if (!isEnd) break
    at += whole.length + 1
  }
  return options
}
