/**
 * Exports that are not written down but LISTed by an upstream. Each upstream that the configuration names with `from` is
 * asked at the start, in intervals, on reload, and when somebody asks for a name that could be new; what it says is
 * believed as far as it can be a name. Rules are those of the entry: no visitor gets more by what an upstream says.
 */
import type { Config, DiscoveryConfig, ExportConfig, ListedUpstream } from '../config/config.ts'
import { globMatches } from '../config/glob.ts'
import type { ListEntry } from '../negotiation/host.ts'
import type { Log } from '../observe/log.ts'
import { MAX_STRING_BYTES } from '../protocol/constants.ts'
import { printable } from '../protocol/strings.ts'
import { listUpstream } from './list-upstream.ts'

/** Exports that one upstream may publish; what it lists beyond them is left out. */
const MAX_EXPORTS = 10_000

/** Time between two listings that visitors cause. */
const COOL_DOWN_MS = 1000

interface Source {
  readonly from: ListedUpstream
  entries: readonly ListEntry[]
  timer: NodeJS.Timeout | undefined
  running: Promise<void> | undefined
  listedAt: number
  isFailing: boolean
}

/** What upstreams list, kept up to date. */
export class Discoveries {
  readonly #log: Log
  readonly #changed: () => Promise<void>
  readonly #list: (from: ListedUpstream) => Promise<readonly ListEntry[]>
  #sources = new Map<string, Source>()

  /** `changed` is called when an upstream lists something else than before; it does not reject. */
  constructor(log: Log, changed: () => Promise<void>, list = listUpstream) {
    this.#log = log
    this.#changed = changed
    this.#list = list
  }

  /** Asks all upstreams of a configuration, of which those of one before may go on. Never rejects. */
  async prepare({ discoveries = [] }: Config): Promise<void> {
    const asked = discoveries.map(({ from }) => {
      const source = this.#sourceOf(from)
      return this.#refresh(source)
    })
    await Promise.all(asked)
  }

  /** From now on the upstreams of this configuration are asked, in their intervals, and no others. */
  follow({ discoveries = [] }: Config): void {
    const used = new Set(discoveries.map(({ from }) => keyOf(from)))
    for (const [key, source] of this.#sources) {
      clearInterval(source.timer)
      if (!used.has(key)) this.#sources.delete(key)
    }
    for (const [key, source] of this.#sources) {
      const intervals = discoveries.filter(({ from }) => keyOf(from) === key).map(({ refreshMs }) => refreshMs)
      source.timer = setInterval(() => void this.#refresh(source), Math.min(...intervals))
      source.timer.unref()
    }
  }

  /** The configuration with all exports that are listed; those that are written down win, then the first entry. */
  extend(config: Config): Config {
    const { discoveries = [] } = config
    if (discoveries.length === 0) return config
    const taken = new Set(config.exports.map(({ name }) => name))
    const found = discoveries.flatMap(each => this.#publish(each, taken))
    return { ...config, exports: [...config.exports, ...found] }
  }

  /** Asks the upstream of an entry again, for a name that is not there, unless it has just been asked. */
  async seek({ from }: DiscoveryConfig): Promise<void> {
    const source = this.#sourceOf(from)
    if (performance.now() - source.listedAt >= COOL_DOWN_MS) await this.#refresh(source)
  }

  close(): void {
    for (const source of this.#sources.values()) clearInterval(source.timer)
    this.#sources = new Map()
  }

  #publish(
    { from, prefix, pattern, refreshMs: _ms, index: _at, ...rules }: DiscoveryConfig,
    taken: Set<string>,
  ): ExportConfig[] {
    return (this.#sources.get(keyOf(from))?.entries ?? []).flatMap(entry => {
      const name = prefix + entry.name
      const isMeant = globMatches(pattern, name) && Buffer.byteLength(name) <= MAX_STRING_BYTES && !taken.has(name)
      if (!isMeant) return []
      taken.add(name)
      const { description } = entry
      const upstream = { ...from, export: entry.name }
      return [{ ...(description !== undefined && { description }), ...rules, name, upstream, isListed: true }]
    })
  }

  #sourceOf(from: ListedUpstream): Source {
    const key = keyOf(from)
    const source = this.#sources.get(key) ?? {
      from,
      entries: [],
      timer: undefined,
      running: undefined,
      listedAt: -COOL_DOWN_MS,
      isFailing: false,
    }
    this.#sources.set(key, source)
    return source
  }

  /** One at a time for each upstream: who comes meanwhile waits for the one that runs. */
  #refresh(source: Source): Promise<void> {
    source.running ??= this.#ask(source).finally(() => {
      source.running = undefined
      source.listedAt = performance.now()
    })
    return source.running
  }

  async #ask(source: Source): Promise<void> {
    const upstream = placeOf(source.from)
    try {
      const listed = await this.#list(source.from)
      const entries = sane(listed)
      const isNews = JSON.stringify(entries) !== JSON.stringify(source.entries)
      if (isNews || source.isFailing) {
        this.#log.info({ upstream, exports: entries.length, left: listed.length - entries.length }, 'exports listed')
      }
      source.isFailing = false
      source.entries = entries
      if (isNews) await this.#changed()
    } catch (error) {
      // What it listed before holds: an upstream that is away for a moment has not lost its exports.
      if (!source.isFailing) this.#log.warn({ upstream, err: error }, 'exports can not be listed')
      source.isFailing = true
    }
  }
}

/** Entries that can be published: names that can be asked for again byte by byte and shown on one line, each once. */
function sane(listed: readonly ListEntry[]): readonly ListEntry[] {
  const seen = new Set<string>()
  const entries: ListEntry[] = []
  for (const { name, description } of listed) {
    if (entries.length >= MAX_EXPORTS) break
    if (!isClean(name) || seen.has(name)) continue
    seen.add(name)
    const isTold = description !== undefined && description !== '' && isClean(description)
    entries.push({ name, ...(isTold && { description }) })
  }
  return entries
}

/** Nothing that a terminal would act on, and nothing that was no UTF-8 (U+FFFD stands for it). */
function isClean(text: string): boolean {
  return Buffer.byteLength(text) <= MAX_STRING_BYTES && !text.includes('\ufffd') && printable(text, Infinity) === text
}

function keyOf(from: ListedUpstream): string {
  return JSON.stringify(from)
}

function placeOf(from: ListedUpstream): string {
  return from.kind === 'unix' ? from.path : `${from.host}:${from.port}`
}
