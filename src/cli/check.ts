import { Command } from 'commander'
import { ConfigError } from '../config/errors.ts'
import { type Loaded, loadAll } from './load.ts'
import { plural } from './plural.ts'

/** `nbdgate check`: all that `serve` would find wrong before it opens a door. */
export function checkCommand(): Command {
  return new Command('check')
    .description('load a configuration and all it names; print every problem')
    .argument('<file>', 'configuration (YAML)')
    .option('--json', 'print JSON, problems too')
    .action((file: string, { json }: { readonly json?: boolean }) => {
      if (json === true) {
        checkForPrograms(file)
        return
      }
      const { config, warnings } = loadAll(file, { strict: true })
      for (const warning of warnings) process.stdout.write(`warning: ${warning}\n`)
      const { discoveries = [] } = config
      const listed =
        discoveries.length === 0
          ? ''
          : `, and those that ${plural(discoveries.length, 'upstream')} list${discoveries.length === 1 ? 's' : ''}`
      const found = `${plural(config.doors.length, 'door')}, ${plural(config.exports.length, 'export')}${listed}`
      process.stdout.write(`${file}: fine: ${found}\n`)
    })
}

/** The verdict on standard output whatever it is; the exit code is the same. */
function checkForPrograms(file: string): void {
  const print = (facts: object): void =>
    void process.stdout.write(`${JSON.stringify({ file, ...facts }, undefined, 2)}\n`)
  try {
    const { config, warnings }: Loaded = loadAll(file, { strict: true })
    const names = { doors: config.doors.map(({ kind }) => kind), exports: config.exports.map(({ name }) => name) }
    print({ problems: [], warnings, ...names })
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    process.exitCode = 2
    print({ problems: error.problems, warnings: [] })
  }
}
