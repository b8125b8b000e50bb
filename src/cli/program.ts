import { Command, CommanderError } from 'commander'
import { isNative } from '../doors/ssh2.ts'
import { VERSION } from '../observe/version.ts'
import { adminCommands } from './admin.ts'
import { auditCommand } from './audit.ts'
import { certsCommand } from './certs.ts'
import { checkCommand } from './check.ts'
import { completionCommand } from './completion.ts'
import { connectCommand } from './connect.ts'
import { demoCommand } from './demo.ts'
import { doctorCommand } from './doctor.ts'
import { explainCommand } from './explain.ts'
import { Exit, failureOf } from './failures.ts'
import { inetdCommand } from './inetd.ts'
import { probeCommand } from './probe.ts'
import { serveCommand } from './serve.ts'

/** The command line, without what runs it: tests read the options off it. */
export function program(version = VERSION): Command {
  const root = new Command('nbdgate')
    .description('a secure gateway in front of an unmodified NBD server')
    .version(version)
    .showHelpAfterError('(--help shows what there is)')
    .exitOverride()
    .addCommand(serveCommand())
    .addCommand(inetdCommand())
    .addCommand(checkCommand())
    .addCommand(connectCommand())
    .addCommand(explainCommand())
    .addCommand(probeCommand())
    .addCommand(auditCommand())
    .addCommand(certsCommand())
    .addCommand(demoCommand())
    .addCommand(doctorCommand())
    .addCommand(completionCommand())
  for (const command of adminCommands()) root.addCommand(command)
  return root
}

/** Runs the command line; returns the exit code: 0 fine, 1 failed, 2 usage or configuration. Never throws. */
export async function run(argv: readonly string[]): Promise<number> {
  const root = program(argv.some(word => word === '--version' || word === '-V') ? versionText() : VERSION)
  // Subcommands exit the process on their own errors unless each is told not to.
  for (const command of withChildren(root)) command.exitOverride()
  for (const output of [process.stdout, process.stderr]) output.off('error', isLeft).on('error', isLeft)
  try {
    await root.parseAsync([...argv])
    return typeof process.exitCode === 'number' ? process.exitCode : Exit.FINE
  } catch (error) {
    // Commander has printed its message already; help and version come here too, with code 0.
    if (error instanceof CommanderError) return error.exitCode === 0 ? Exit.FINE : Exit.USAGE
    const { text, code } = failureOf(error)
    process.stderr.write(text)
    return code
  }
}

/** Whoever reads a pipe may leave before the end (`| head`): the rest is for nobody, and that is no failure. */
function isLeft(error: Error): void {
  if (!('code' in error && error.code === 'EPIPE')) throw error
}

/** Asked for only where it is shown: it loads a part of ssh2. */
function versionText(): string {
  return isNative() ? VERSION : `${VERSION} (ssh without its native cipher: slow)`
}

function withChildren(command: Command): Command[] {
  return [command, ...command.commands.flatMap(withChildren)]
}
