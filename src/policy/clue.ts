/**
 * Clues: what must be known of a visitor for a condition to hold at all. They find, among thousands of rules, the few
 * that are worth a look; whether a rule holds is never decided by them.
 */

/** A value that can be looked up: text, or an address cut to the length of a network. */
export type ClueKey = string | number | bigint

/**
 * A condition with a clue holds only for facts of which `keysOf` makes its key, perhaps among others. Clues of one `id`
 * make the same keys, so that one look serves all of them.
 */
export interface Clue<Facts> {
  readonly id: string
  readonly key: ClueKey
  readonly keysOf: (facts: Facts) => readonly ClueKey[]
}

/** A compiled condition on facts of a kind. Without a clue it could hold for anybody. */
export interface Test<Facts> {
  readonly holds: (facts: Facts) => boolean
  readonly clue?: Clue<Facts> | undefined
}

/** A clue of a part, as one of the whole that the parts are found in. `name` tells the places where parts are found. */
export function clueWithin<Whole, Part>(
  name: string,
  clue: Clue<Part> | undefined,
  partsOf: (whole: Whole) => readonly Part[],
): Clue<Whole> | undefined {
  if (clue === undefined) return undefined
  const { id, key, keysOf } = clue
  return { id: `${name} ${id}`, key, keysOf: whole => keysOfAll(partsOf(whole), keysOf) }
}

function keysOfAll<Part>(parts: readonly Part[], keysOf: (part: Part) => readonly ClueKey[]): readonly ClueKey[] {
  const [only] = parts
  if (only === undefined) return []
  return parts.length === 1 ? keysOf(only) : parts.flatMap(keysOf)
}
