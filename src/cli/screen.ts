import type { ReadStream, WriteStream } from 'node:tty'

const ENTER = '\u001b[?1049h\u001b[?25l'
const LEAVE = '\u001b[?25h\u001b[?1049l'
const HOME = '\u001b[H'
const CLEAR_LINE = '\u001b[K'
const CLEAR_BELOW = '\u001b[J'

/** A terminal that one program has for itself. */
export interface Screen {
  readonly size: { readonly columns: number; readonly rows: number }
  draw(lines: readonly string[]): void
  /** Gives the terminal back as it was. */
  close(): void
}

export interface ScreenEvents {
  /** A key: its letter, or `up`, `down`, `interrupt`. */
  readonly key: (key: string) => void
  readonly resized: () => void
}

/** Takes a terminal: keys come one by one, and what was on it is there again afterwards. */
export function openScreen(input: ReadStream, output: WriteStream, { key, resized }: ScreenEvents): Screen {
  const typed = (text: string): void => {
    for (const each of keysOf(text)) key(each)
  }
  input.setRawMode(true)
  input.setEncoding('utf8').on('data', typed).resume()
  output.on('resize', resized)
  output.write(ENTER)
  return {
    get size() {
      // A terminal that does not tell its size says 0.
      return { columns: output.columns || 80, rows: output.rows || 24 }
    },
    draw: lines => {
      output.write(`${HOME}${lines.map(line => `${CLEAR_LINE}${line}`).join('\r\n')}${CLEAR_BELOW}`)
    },
    close: () => {
      input.off('data', typed).pause()
      input.setRawMode(false)
      output.off('resize', resized)
      output.write(LEAVE)
    },
  }
}

const NAMED: Readonly<Record<string, string>> = {
  '\u001b[A': 'up',
  '\u001bOA': 'up',
  '\u001b[B': 'down',
  '\u001bOB': 'down',
  '\u0003': 'interrupt',
}

/** The keys in what a terminal has sent; other escape sequences are none. */
export function keysOf(text: string): readonly string[] {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: that is what keys are
  const pieces = text.match(/\u001b\[[0-9;]*[@-~]|\u001bO.|./gsu) ?? []
  return pieces.flatMap(each => NAMED[each] ?? (each.startsWith('\u001b') ? [] : [each]))
}
