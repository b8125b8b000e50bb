/** Why something of a later version is refused by name: a file that asks for it must not be served without it. */
export function laterProblem(what: string): string {
  return `${what} is not in this version; nbdgate does not ignore what it can not enforce`
}
