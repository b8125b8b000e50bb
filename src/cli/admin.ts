import type { Command } from 'commander'
import * as z from 'zod'
import { type AdminFlags, ask, errorOf } from './admin-client.ts'
import { leaseCommand } from './lease.ts'
import { onGateway } from './on-gateway.ts'
import { overlaysCommand } from './overlays.ts'
import { askSessions } from './session-list.ts'
import { sessionTable } from './session-table.ts'
import { topCommand } from './top.ts'

const HTTP = { ACCEPTED: 202, NO_CONTENT: 204 } as const

const reloadResult = z.union([
  z.object({ kind: z.literal('reloaded'), sessionsEnded: z.number() }),
  z.object({ kind: z.literal('failed'), problems: z.array(z.string()) }),
])

/** The commands that talk to a running gateway through its admin socket. */
export function adminCommands(): readonly Command[] {
  return [
    onGateway('sessions', 'who is on which export').option('--json', 'all facts, as JSON').action(sessions),
    topCommand(),
    onGateway('kick', 'end a session now').argument('<id>', 'its number, as `sessions` shows it').action(kick),
    leaseCommand(),
    overlaysCommand(),
    onGateway('reload', 'read the configuration and all it names again; all of it or nothing')
      .option('--json', 'what came of it, as JSON')
      .action(reload),
    onGateway('drain', 'let nobody in any more, and end when the last session has').action(drain),
  ]
}

async function sessions(flags: AdminFlags & { readonly json?: boolean }): Promise<void> {
  const list = await askSessions(flags)
  const width = process.stdout.isTTY ? process.stdout.columns : undefined
  const text = flags.json === true ? `${JSON.stringify(list, null, 2)}\n` : sessionTable(list, Date.now(), width)
  process.stdout.write(text)
}

async function kick(id: string, flags: AdminFlags): Promise<void> {
  const { status, body } = await ask(flags, 'DELETE', `/v1/sessions/${encodeURIComponent(id)}`)
  if (status !== HTTP.NO_CONTENT) throw new Error(errorOf(body))
}

async function reload(flags: AdminFlags & { readonly json?: boolean }): Promise<void> {
  const { body } = await ask(flags, 'POST', '/v1/reload')
  const result = reloadResult.parse(body)
  if (flags.json === true) {
    if (result.kind === 'failed') process.exitCode = 1
    process.stdout.write(`${JSON.stringify(result, null, 2)}\n`)
    return
  }
  if (result.kind === 'failed') throw new Error(`all stays as it was:\n${result.problems.join('\n')}`)
  process.stdout.write(`reloaded; sessions ended: ${result.sessionsEnded}\n`)
}

async function drain(flags: AdminFlags): Promise<void> {
  const { status, body } = await ask(flags, 'POST', '/v1/drain')
  if (status !== HTTP.ACCEPTED) throw new Error(errorOf(body))
  process.stdout.write('draining\n')
}
