import { Command } from 'commander'
import type { Config } from '../config/config.ts'
import { loadConfig } from '../config/load.ts'
import { MaterialError } from '../pki/errors.ts'
import { loadClientMaterial, loadServerMaterial } from '../pki/material.ts'
import { whoProblem } from '../policy/who.ts'

/** `nbdgate check`: all that `serve` would find wrong before it opens a door. */
export function checkCommand(): Command {
  return new Command('check')
    .description('load a configuration and all it names; print every problem')
    .argument('<file>', 'configuration (YAML)')
    .action((file: string) => {
      const config = loadConfig(file, { validateWho: whoProblem })
      const { problems, warnings } = checkMaterial(config)
      for (const warning of warnings) process.stdout.write(`warning: ${warning}\n`)
      for (const problem of problems) process.stderr.write(`${problem}\n`)
      if (problems.length > 0) process.exitCode = 2
      else process.stdout.write(`${file}: fine: ${config.doors.length} doors, ${config.exports.length} exports\n`)
    })
}

function checkMaterial(config: Config): { problems: string[]; warnings: string[] } {
  const problems: string[] = []
  const warnings: string[] = []
  const attempt = (source: string, load: () => { readonly warnings: readonly string[] }): void => {
    try {
      warnings.push(...load().warnings.map(warning => `${source}: ${warning}`))
    } catch (error) {
      if (!(error instanceof MaterialError)) throw error
      problems.push(`${source}: ${error.message}`)
    }
  }
  for (const door of config.doors) if (door.kind === 'tls') attempt(door.source, () => loadServerMaterial(door))
  for (const { upstream, source } of config.exports) {
    if (upstream.kind !== 'file' && upstream.tls) attempt(source, () => loadClientMaterial(upstream))
  }
  return { problems, warnings }
}
