/** What a visitor may ask to be connected with: all exports, or one of them. Nothing else lies behind the SSH door. */
export type Target = { readonly kind: 'all' } | { readonly kind: 'export'; readonly name: string }

/** The port that stands for NBD, whatever the host's name (IANA's). */
const NBD_PORT = 10809

const EXPORTS = '/exports'

/** The target of `-L PORT:HOST:PORT` and `-W HOST:PORT`; undefined: nothing of ours. */
export function targetOfPort(port: number): Target | undefined {
  return port === NBD_PORT ? { kind: 'all' } : undefined
}

/** The target of `-L PORT:/exports` and `-L PORT:/exports/NAME`; undefined: nothing of ours. */
export function targetOfPath(path: string): Target | undefined {
  if (path === EXPORTS || path === `${EXPORTS}/`) return { kind: 'all' }
  return path.startsWith(`${EXPORTS}/`) ? { kind: 'export', name: path.slice(EXPORTS.length + 1) } : undefined
}

/** Whether one of the permitted targets (undefined: no limit) includes the one asked for. */
export function isPermitted(target: Target, permitted: readonly Target[] | undefined): boolean {
  if (permitted === undefined) return true
  return permitted.some(
    each => each.kind === 'all' || (target.kind === 'export' && each.kind === 'export' && each.name === target.name),
  )
}
