/** What stands in an argument for something that is known only when the program is run. */
export interface Values {
  readonly export: string
  readonly identity: string
  readonly id?: string
  readonly overlay?: string
  readonly socket?: string
}

/** Arguments with their values. */
export function fill(argv: readonly string[], values: Values): readonly string[] {
  const known: Readonly<Record<string, string | undefined>> = { ...values }
  // In one pass: a value is never looked at for placeholders.
  return argv.map(argument => argument.replace(/\{([a-z]+)\}/g, (all, name: string) => known[name] ?? all))
}

/** What of our own environment others need. */
const PASSED = ['PATH', 'HOME', 'USER', 'LOGNAME', 'SHELL', 'LANG', 'LC_ALL', 'TZ', 'TMPDIR']
const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** The environment of a program: a few of our own variables, and the values as NBDGATE_*. */
export function environment(values: Values): NodeJS.ProcessEnv {
  const passed = PASSED.map(name => [name, process.env[name]] as const).filter(([, value]) => value !== undefined)
  const own = Object.entries(values).map(([name, value]) => [`NBDGATE_${name.toUpperCase()}`, value] as const)
  return Object.fromEntries([['PATH', DEFAULT_PATH], ...passed, ...own])
}
