import type { CommandAt } from './command-tree.ts'

/** Where a command is, as the scripts write it: `/certs/init`; the root is empty. */
export function placeOf({ path }: CommandAt): string {
  return path === '' ? '' : `/${path.replaceAll(' ', '/')}`
}

/** One word for a shell (POSIX, zsh): in single quotes. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`
}

/** The options of a command as they are typed: `-c --config --help`. */
export function optionWords({ options }: CommandAt): readonly string[] {
  return options.flatMap(({ short, long }) => [short, long].filter(word => word !== undefined))
}
