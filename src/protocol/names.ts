/**
 * The name of a wire value for a log line.
 * `nameOf(Opt, 3)` is `LIST`, `nameOf(Opt, 99)` is `unknown(99)`: a log never shows a bare number.
 */
export function nameOf(table: Readonly<Record<string, number>>, value: number): string {
  for (const name in table) if (table[name] === value) return name
  return `unknown(${value})`
}

/**
 * The names of the bits that are set, in the table's order; bits without a name come last as hexadecimal.
 * `flagNames(CmdFlag, 0x105)` is `FUA|DF|0x100`; no bit set is `0`.
 */
export function flagNames(table: Readonly<Record<string, number>>, flags: number): string {
  const names: string[] = []
  let rest = flags
  for (const name in table) {
    const bit = table[name] ?? 0
    if ((flags & bit) === 0) continue
    names.push(name)
    rest &= ~bit
  }
  if (rest !== 0) names.push(`0x${(rest >>> 0).toString(16)}`)
  return names.length === 0 ? '0' : names.join('|')
}
