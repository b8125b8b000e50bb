import type { Readable } from 'node:stream'

/** How much of a line of a program gets into the log. */
const MAX_LINE = 1000
/** How many lines at once, and a second. */
const BURST = 50
const PER_SECOND = 10
/** Who says more than so much in a while has to wait: reading it would take the time of others. */
const MAX_CHARACTERS = 128 * 1024
const WHILE_MS = 250
/** How much of what it said last is kept, to say why it failed. */
const MAX_LAST = 300

/** What a program says on its standard error, as lines for the log: each bounded, and so many of them. */
export class Said {
  readonly #say: (line: string, left: number) => void
  #rest = ''
  #isCut = false
  #tokens = BURST
  #atMs = performance.now()
  #left = 0
  #last = ''

  /** `say` gets a line, and how many were left out in front of it. */
  constructor(say: (line: string, left: number) => void) {
    this.#say = say
  }

  /** The last line that was not empty. */
  get last(): string {
    return this.#last
  }

  /** Listens to a stream until it is closed. */
  follow(stream: Readable): void {
    let heard = 0
    const timer = setInterval(() => {
      heard = 0
      stream.resume()
    }, WHILE_MS)
    stream.setEncoding('utf8')
    stream.on('data', (text: string) => {
      this.feed(text)
      heard += text.length
      if (heard > MAX_CHARACTERS) stream.pause()
    })
    stream.once('close', () => clearInterval(timer))
  }

  feed(text: string): void {
    const lines = text.split('\n')
    const rest = lines.pop() ?? ''
    for (const line of lines) {
      this.#line(this.#rest + line)
      this.#rest = ''
      this.#isCut = false
    }
    // Of a line without an end no more is kept than is told.
    if (this.#isCut) return
    this.#rest = (this.#rest + rest).slice(0, MAX_LINE + 1)
    this.#isCut = this.#rest.length > MAX_LINE
  }

  /** It says no more. */
  end(): void {
    if (this.#rest !== '') this.#line(this.#rest)
    this.#rest = ''
    if (this.#left > 0) this.#say('', this.#left)
    this.#left = 0
  }

  #line(line: string): void {
    const clean = line.length > MAX_LINE ? `${line.slice(0, MAX_LINE)}…` : line.trimEnd()
    if (clean === '') return
    this.#last = clean.slice(0, MAX_LAST)
    const now = performance.now()
    this.#tokens = Math.min(BURST, this.#tokens + ((now - this.#atMs) / 1000) * PER_SECOND)
    this.#atMs = now
    if (this.#tokens < 1) {
      this.#left++
      return
    }
    this.#tokens--
    this.#say(clean, this.#left)
    this.#left = 0
  }
}
