/** Whether a stream shows colours: a terminal, and nobody has said no (no-color.org). */
export function hasColours(stream: { readonly isTTY?: boolean | undefined }, env = process.env): boolean {
  return stream.isTTY === true && (env.NO_COLOR ?? '') === '' && env.TERM !== 'dumb'
}

const CODES = { green: 32, yellow: 33, red: 31 } as const

/** Text in a colour, as terminals have it. */
export function coloured(text: string, colour: keyof typeof CODES): string {
  return `\x1b[${CODES[colour]}m${text}\x1b[39m`
}
