// `nbdgate doctor`: what of this host and of a configuration does not work, will not work soon, or is open to others, and
// what to do about it. It changes nothing; upstreams are asked as a client would ask them.
import { existsSync } from 'node:fs'
import { Command } from 'commander'
import type { Config } from '../config/config.ts'
import { ConfigError } from '../config/errors.ts'
import { loadConfig } from '../config/load.ts'
import { whoProblem } from '../policy/who.ts'
import { printable } from '../protocol/strings.ts'
import { coloured, hasColours } from './colours.ts'
import { doorFindings, limitFindings } from './doctor-doors.ts'
import { fileFindings, keyFindings } from './doctor-files.ts'
import { type Finding, fine, type Level, problem, warning } from './doctor-finding.ts'
import { programFindings } from './doctor-programs.ts'
import { runtimeFindings } from './doctor-runtime.ts'
import { upstreamFindings } from './doctor-upstreams.ts'
import { UsageError } from './errors.ts'
import { loadAll } from './load.ts'
import { plural } from './plural.ts'

interface DoctorFlags {
  readonly config?: string
  readonly json?: boolean
}

const COLOURS = { fine: 'green', warning: 'yellow', problem: 'red' } as const

/** `nbdgate doctor`. Exit code 1 if there is a problem; warnings are none. */
export function doctorCommand(): Command {
  return new Command('doctor')
    .description('look for what does not work, will not soon, or is open to others; exit 1: there is a problem')
    .option('-c, --config <file>', 'configuration (YAML): its files, keys, doors and upstreams too')
    .option('--json', 'print JSON')
    .action(async ({ config, json }: DoctorFlags) => {
      const nowMs = Date.now()
      const ofConfig = config === undefined ? [] : await configFindings(config, nowMs)
      const findings = [...(await runtimeFindings(nowMs)), ...ofConfig]
      const count = (level: Level): number => findings.filter(each => each.level === level).length
      const [problems, warnings] = [count('problem'), count('warning')]
      if (problems > 0) process.exitCode = 1
      if (json === true) {
        process.stdout.write(`${JSON.stringify({ problems, warnings, findings }, undefined, 2)}\n`)
        return
      }
      const colours = hasColours(process.stdout)
      const summary = `${plural(problems, 'problem')}, ${plural(warnings, 'warning')}`
      process.stdout.write(`${[...findings.flatMap(each => lines(each, colours)), summary].join('\n')}\n`)
    })
}

/** All that a configuration says something about. @throws UsageError if there is none */
async function configFindings(file: string, nowMs: number): Promise<readonly Finding[]> {
  if (!existsSync(file)) throw new UsageError(`${file}: there is no such file`)
  const loaded = load(file)
  const { config } = loaded
  if (config === undefined) return loaded.findings
  return [
    ...loaded.findings,
    ...keyFindings(config, nowMs),
    ...fileFindings(config),
    ...(await doorFindings(config)),
    ...limitFindings(config),
    ...(await upstreamFindings(config)),
    ...programFindings(config),
  ]
}

/** The configuration, if its text can be used, and what `check` says of it and of all it names. */
function load(file: string): { readonly config: Config | undefined; readonly findings: readonly Finding[] } {
  const textual = attempt(() => loadConfig(file, { validateWho: whoProblem }))
  if (textual.value === undefined) return { config: undefined, findings: textual.findings }
  const whole = attempt(() => loadAll(file, { strict: true }))
  const warnings =
    whole.value?.warnings.map(each => warning('configuration', each, 'nbdgate check says the same')) ?? []
  const verdict = whole.findings.length + warnings.length > 0 ? [] : [fine('configuration', `${file}: nothing wrong`)]
  return { config: textual.value, findings: [...whole.findings, ...warnings, ...verdict] }
}

function attempt<T>(work: () => T): { readonly value: T | undefined; readonly findings: readonly Finding[] } {
  try {
    return { value: work(), findings: [] }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    const todo = 'mend that line; nbdgate check FILE'
    return { value: undefined, findings: error.message.split('\n').map(each => problem('configuration', each, todo)) }
  }
}

function lines({ level, check, what, todo }: Finding, colours: boolean): readonly string[] {
  const word = colours ? coloured(level, COLOURS[level]) : level
  return [
    `${word}: ${check}: ${printable(what, 1024)}`,
    ...(todo === undefined ? [] : [`    ${printable(todo, 1024)}`]),
  ]
}
