const CLEAR = '\r\u001b[K'
const WIDTH = 20

/** How far a batch is, on the last line of a terminal. */
export interface ProgressBar {
  draw(done: number): void
  /** Takes the line away, for one that stays. */
  clear(): void
}

/** Nothing is shown of a batch of one, nor where there is no terminal. */
export function progressBar(
  total: number,
  output: { readonly isTTY?: boolean; write(text: string): unknown } = process.stderr,
): ProgressBar {
  const isShown = output.isTTY === true && total > 1
  const write = (text: string): void => void (isShown && output.write(text))
  return {
    draw: done => {
      const full = Math.floor((done / total) * WIDTH)
      write(`${CLEAR}[${'#'.repeat(full)}${'.'.repeat(WIDTH - full)}] ${done} of ${total}`)
    },
    clear: () => write(CLEAR),
  }
}
