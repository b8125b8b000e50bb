import { Command, Option } from 'commander'
import { DOOR_KINDS } from './inetd-flags.ts'

/** `nbdgate inetd`, for its help and its mistakes: what inetd starts is inetd-main.ts, which does without commander. */
export function inetdCommand(): Command {
  return new Command('inetd')
    .description('serve the one connection on standard input: for xinetd, inetd, and systemd with Accept=yes')
    .requiredOption('-c, --config <file>', 'configuration (YAML)')
    .addOption(new Option('--door <kind>', 'which of its doors, where it has several').choices(DOOR_KINDS))
    .action(async (flags: { readonly config: string; readonly door?: string }) => {
      const { serveStandardInput } = await import('./inetd-serve.ts')
      await serveStandardInput(flags)
    })
}
