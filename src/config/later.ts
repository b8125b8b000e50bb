/**
 * Keys of the contract that a later version brings. They are known, so that they are refused by name: a file that asks for
 * a guard must not be served without it.
 */

import type { Path } from './yaml-source.ts'

const LEASES = ['etcd', 'ca', 'cert', 'key', 'ttl']
const EXPORT = ['prepare', 'cleanup', 'per', 'authorize', 'spawn']
const UPSTREAM = ['spawn']

/** Whether a later version knows `key` in the map at `path`. */
export function isLaterKey(path: Path, key: string): boolean {
  return keysAt(path).includes(key)
}

/** Why something of a later version is refused. */
export function laterProblem(what: string): string {
  return `${what} is not in this version; nbdgate does not ignore what it can not enforce`
}

function keysAt(path: Path): readonly string[] {
  switch (path.filter(step => typeof step === 'string').join('.')) {
    case 'leases':
      return LEASES
    case 'exports':
      return EXPORT
    case 'exports.upstream':
      return UPSTREAM
    default:
      return []
  }
}
