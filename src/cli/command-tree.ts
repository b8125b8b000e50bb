import type { Command, Option } from 'commander'

/** One command of the tree; `path` is what is typed after `nbdgate`: `certs init`, and `''` for the root. */
export interface CommandAt {
  readonly path: string
  readonly command: Command
  /** Those of its options that help shows, `--help` too. */
  readonly options: readonly Option[]
  readonly children: readonly CommandAt[]
}

/** What a word of the command line stands for; shells offer values by it. */
export type ValueKind =
  | { readonly kind: 'words'; readonly words: readonly string[] }
  | { readonly kind: 'file' | 'folder' | 'free' }

/** Commander's tree, read once: completion and manual are made from it. */
export function commandTree(command: Command, path = ''): CommandAt {
  const children = command.commands.map(child => commandTree(child, `${path} ${child.name()}`.trim()))
  return { path, command, options: command.createHelp().visibleOptions(command), children }
}

/** The tree as a list, a parent before its children. */
export function allCommands(root: CommandAt): readonly CommandAt[] {
  return [root, ...root.children.flatMap(allCommands)]
}

/** What follows an option; undefined for those that stand alone. */
export function optionValue({ flags, argChoices }: Option): ValueKind | undefined {
  const name = /[<[]([^>\]]+)/.exec(flags)?.[1]
  return name === undefined ? undefined : valueKind(name, argChoices)
}

/** What the arguments of a command are; undefined if it has none. The last one may be repeated, so it stands for all. */
export function argumentValue({ registeredArguments }: Command): ValueKind | undefined {
  const last = registeredArguments.at(-1)
  return last === undefined ? undefined : valueKind(last.name(), last.argChoices)
}

/** The names that placeholders have: `<file>` is a file. */
function valueKind(name: string, choices: readonly string[] | undefined): ValueKind {
  if (choices !== undefined) return { kind: 'words', words: choices }
  const word = name.replace('...', '')
  if (word === 'file' || word === 'path') return { kind: 'file' }
  return { kind: word === 'folder' ? 'folder' : 'free' }
}
