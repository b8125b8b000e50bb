// `nbdgate completion SHELL`: a script that completes commands, options and values. It is made from commander's tree and
// holds all of it, so that a shell does not start Node for each key.
import { Argument, Command } from 'commander'
import { type CommandAt, commandTree } from './command-tree.ts'
import { bashCompletion } from './completion-bash.ts'
import { fishCompletion } from './completion-fish.ts'
import { zshCompletion } from './completion-zsh.ts'

const SHELLS: Readonly<Record<string, (root: CommandAt) => string>> = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
}

/** `nbdgate completion`. */
export function completionCommand(): Command {
  return new Command('completion')
    .description('print what makes a shell complete commands, options and files: source <(nbdgate completion bash)')
    .addArgument(new Argument('<shell>', 'the shell').choices(Object.keys(SHELLS)))
    .action((shell: string, _flags: unknown, self: Command) => {
      process.stdout.write(SHELLS[shell]?.(commandTree(rootOf(self))) ?? '')
    })
}

function rootOf(command: Command): Command {
  return command.parent === null ? command : rootOf(command.parent)
}
