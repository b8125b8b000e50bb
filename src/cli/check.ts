import { Command } from 'commander'
import { loadAll } from './load.ts'

/** `nbdgate check`: all that `serve` would find wrong before it opens a door. */
export function checkCommand(): Command {
  return new Command('check')
    .description('load a configuration and all it names; print every problem')
    .argument('<file>', 'configuration (YAML)')
    .action((file: string) => {
      const { config, warnings } = loadAll(file, { strict: true })
      for (const warning of warnings) process.stdout.write(`warning: ${warning}\n`)
      const { discoveries = [] } = config
      const listed = discoveries.length === 0 ? '' : `, and those that ${discoveries.length} upstreams list`
      process.stdout.write(`${file}: fine: ${config.doors.length} doors, ${config.exports.length} exports${listed}\n`)
    })
}
