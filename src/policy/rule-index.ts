/**
 * Which of many rules could hold for a visitor, found by their clues. A rule has to meet all its conditions, so one of
 * them is enough to find it by: the one whose clues it shares with the fewest other rules. Rules without a clue, and
 * those of a kind too rare to be worth a search, are always looked at.
 */
import type { Clue, ClueKey } from './clue.ts'
import type { Identity } from './identity.ts'
import type { Who } from './who.ts'

/** Whoever all of these hold for. */
export interface Conditions {
  readonly who: readonly Who[]
}

/** The rules that could hold for an identity, in the order in which they are written; all others do not. */
export type RuleFinder<Rule> = (identity: Identity) => readonly Rule[]

/** Fewer rules than this are looked at in less time than a search takes. */
const WORTH_A_SEARCH = 8

type Clues = readonly Clue<Identity>[]

/** The rules, by number, whose clues have one `id`. */
interface Shelf {
  readonly keysOf: Clue<Identity>['keysOf']
  readonly rules: Map<ClueKey, number[]>
}

/** Makes a finder; undefined where all rules had to be looked at anyway. */
export function indexRules<Rule extends Conditions>(rules: readonly Rule[]): RuleFinder<Rule> | undefined {
  if (rules.length < WORTH_A_SEARCH) return undefined
  const chosen = chooseClues(rules)
  const shelves = [...shelve(chosen).values()]
  if (shelves.length === 0) return undefined
  const found = new Set(shelves.flatMap(shelf => [...shelf.rules.values()].flat()))
  const always = [...rules.keys()].filter(at => !found.has(at))
  const rulesAt = (numbers: readonly number[]): readonly Rule[] => {
    const some: Rule[] = []
    for (const at of numbers) {
      const rule = rules[at]
      if (rule !== undefined) some.push(rule)
    }
    return some
  }
  const alwaysRules = rulesAt(always)
  return identity => {
    const lists: (readonly number[])[] = []
    for (const { keysOf, rules: byKey } of shelves) {
      for (const key of keysOf(identity)) {
        const list = byKey.get(key)
        if (list !== undefined) lists.push(list)
      }
    }
    return lists.length === 0 ? alwaysRules : rulesAt(inOrder(always.length === 0 ? lists : [...lists, always]))
  }
}

/** One list of several that are in order. A rule can be found by several of its clues, and by one of them twice. */
function inOrder(lists: readonly (readonly number[])[]): readonly number[] {
  const [only] = lists
  if (only !== undefined && lists.length === 1) return only
  const sorted = Uint32Array.from(lists.flat()).sort()
  return [...sorted].filter((at, nth) => nth === 0 || at !== sorted[nth - 1])
}

/** For each rule, the clues of the condition that is to find it. */
function chooseClues(rules: readonly Conditions[]): readonly (Clues | undefined)[] {
  const counts = new Map<string, Map<ClueKey, number>>()
  const countOf = ({ id, key }: Clue<Identity>): number => counts.get(id)?.get(key) ?? 0
  for (const clue of rules.flatMap(({ who }) => who.flatMap(({ clues }) => clues ?? []))) {
    const byKey = counts.get(clue.id) ?? new Map<ClueKey, number>()
    counts.set(clue.id, byKey.set(clue.key, countOf(clue) + 1))
  }
  const crowdOf = (clues: Clues): number => clues.reduce((sum, clue) => sum + countOf(clue), 0)
  return rules.map(({ who }) => {
    let best: Clues | undefined
    for (const { clues } of who) {
      if (clues !== undefined && (best === undefined || crowdOf(clues) < crowdOf(best))) best = clues
    }
    return best
  })
}

/** Puts rules onto shelves, by the `id` of their clues. One that needs a shelf that holds too few stays off them all. */
function shelve(chosen: readonly (Clues | undefined)[]): ReadonlyMap<string, Shelf> {
  const sizes = new Map<string, number>()
  for (const { id } of chosen.flatMap(clues => clues ?? [])) sizes.set(id, (sizes.get(id) ?? 0) + 1)
  const shelves = new Map<string, Shelf>()
  for (const [at, clues] of chosen.entries()) {
    if (clues === undefined || clues.some(({ id }) => (sizes.get(id) ?? 0) < WORTH_A_SEARCH)) continue
    for (const { id, key, keysOf } of clues) {
      const shelf = shelves.get(id) ?? { keysOf, rules: new Map<ClueKey, number[]>() }
      shelves.set(id, shelf)
      const same = shelf.rules.get(key)
      if (same === undefined) shelf.rules.set(key, [at])
      else same.push(at)
    }
  }
  return shelves
}
