import { Command } from 'commander'

/** A command that asks a running gateway. */
export function onGateway(name: string, description: string): Command {
  return new Command(name)
    .description(description)
    .option('--socket <path>', "the gateway's admin socket")
    .option('-c, --config <file>', 'the configuration that names it')
}
