/** `nbdgate top`: the sessions of a running gateway, again and again. */
import { setTimeout as delay } from 'node:timers/promises'
import { type Command, InvalidArgumentError, Option } from 'commander'
import { type AdminFlags, ask, errorOf } from './admin-client.ts'
import { onGateway } from './on-gateway.ts'
import { openScreen } from './screen.ts'
import { askSessions, type ListedSession } from './session-list.ts'
import { SORTS, type Sort, sortRows, type TopRow, topRows } from './top-rows.ts'
import { topLines, topTable } from './top-view.ts'

const NO_CONTENT = 204

/** Between the two looks of a table that is printed once. */
const GLANCE_MS = 1000

interface TopFlags extends AdminFlags {
  readonly interval: number
  readonly sort: Sort
  readonly json?: boolean
}

export function topCommand(): Command {
  return onGateway('top', 'who moves what, live; on a pipe one table')
    .option('--interval <seconds>', 'between two looks', parseInterval, 1)
    .addOption(new Option('--sort <key>', 'what comes first').choices(SORTS).default('traffic'))
    .option('--json', 'what each session moves in a second, as JSON, once')
    .action(top)
}

async function top(flags: TopFlags): Promise<void> {
  const { stdin, stdout } = process
  if (stdin.isTTY && stdout.isTTY && flags.json !== true) await new Top(flags).run()
  else {
    const [before, beganMs] = [await askSessions(flags), performance.now()]
    await delay(GLANCE_MS)
    const looks = { before, now: await askSessions(flags), seconds: (performance.now() - beganMs) / 1000 }
    const rows = sortRows(topRows(looks), flags.sort)
    stdout.write(flags.json === true ? `${JSON.stringify(rows, undefined, 2)}\n` : topTable(rows, Date.now()))
  }
}

/** The live table: what is shown, and what keys do to it. */
class Top {
  readonly #flags: TopFlags
  #sort: Sort
  #reversed = false
  #rows: readonly TopRow[] = []
  #before: readonly ListedSession[] = []
  #beforeMs = 0
  #selected: number | undefined
  /** The session that is asked about. */
  #asked: TopRow | undefined
  #message: string | undefined
  #ended = new AbortController()
  #draw = (): void => {}

  constructor(flags: TopFlags) {
    this.#flags = flags
    this.#sort = flags.sort
  }

  /** Until somebody quits. @throws what `ask` throws at the first look; later it is a message */
  async run(): Promise<void> {
    await this.#look()
    const colors = (process.env.NO_COLOR ?? '') === ''
    const screen = openScreen(process.stdin, process.stdout, { key: this.#key, resized: () => this.#draw() })
    const quit = (): void => this.#ended.abort()
    process.on('SIGTERM', quit)
    process.on('SIGHUP', quit)
    this.#draw = () => {
      const { size } = screen
      const [rows, selected, sort, reversed] = [this.#rows, this.#selected, this.#sort, this.#reversed]
      screen.draw(topLines({ rows, selected, sort, reversed, message: this.#message, size, colors, nowMs: Date.now() }))
    }
    try {
      while (!this.#ended.signal.aborted) {
        this.#draw()
        await delay(this.#flags.interval * 1000, undefined, { signal: this.#ended.signal }).catch(() => {})
        if (!this.#ended.signal.aborted) await this.#look().catch((error: unknown) => this.#failed(error))
      }
    } finally {
      screen.close()
      process.off('SIGTERM', quit)
      process.off('SIGHUP', quit)
    }
  }

  async #look(): Promise<void> {
    const now = await askSessions(this.#flags)
    const nowMs = performance.now()
    const seconds = (nowMs - this.#beforeMs) / 1000
    this.#rows = sortRows(topRows({ before: this.#before, now, seconds }), this.#sort, this.#reversed)
    this.#before = now
    this.#beforeMs = nowMs
    if (!now.some(({ id }) => id === this.#selected)) this.#selected = undefined
  }

  readonly #key = (key: string): void => {
    if (key === 'interrupt') this.#ended.abort()
    else if (this.#asked !== undefined) this.#answer(this.#asked, key)
    else this.#command(key)
    this.#draw()
  }

  #command(key: string): void {
    this.#message = undefined
    if (key === 'q') this.#ended.abort()
    else if (key === 'up') this.#choose(-1)
    else if (key === 'down') this.#choose(1)
    else if (key === 's') this.#sort = SORTS[(SORTS.indexOf(this.#sort) + 1) % SORTS.length] ?? 'traffic'
    else if (key === 'r') this.#reversed = !this.#reversed
    else if (key === 'k') this.#askAbout()
    this.#rows = sortRows(this.#rows, this.#sort, this.#reversed)
  }

  #choose(step: number): void {
    const at = this.#rows.findIndex(({ id }) => id === this.#selected)
    const next = at < 0 ? 0 : Math.min(Math.max(at + step, 0), this.#rows.length - 1)
    this.#selected = this.#rows[next]?.id
  }

  #askAbout(): void {
    this.#asked = this.#rows.find(({ id }) => id === this.#selected)
    const { id, who, export: name } = this.#asked ?? {}
    this.#message = this.#asked === undefined ? 'choose one with ↑ or ↓ first' : `end ${id}, ${who} on ${name}? y/n`
  }

  #answer({ id }: TopRow, key: string): void {
    this.#asked = undefined
    this.#message = undefined
    if (key === 'y') this.#kick(id).catch((error: unknown) => this.#failed(error))
  }

  async #kick(id: number): Promise<void> {
    const { status, body } = await ask(this.#flags, 'DELETE', `/v1/sessions/${id}`)
    this.#message = status === NO_CONTENT ? `session ${id} is ended` : errorOf(body)
    await this.#look()
    this.#draw()
  }

  #failed(error: unknown): void {
    this.#message = error instanceof Error ? error.message : String(error)
    this.#draw()
  }
}

function parseInterval(text: string): number {
  const seconds = Number(text)
  if (!(seconds >= 0.1 && seconds <= 3600)) throw new InvalidArgumentError('a number of seconds from 0.1 to 3600')
  return seconds
}
