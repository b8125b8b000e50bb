import type { Command } from 'commander'
import * as z from 'zod'
import { type AdminFlags, ask, errorOf } from './admin-client.ts'
import { type AnswerFlags, answer, JSON_OPTION } from './answer.ts'
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
    onGateway('kick', 'end a session now')
      .argument('<id>', 'its number, as `sessions` shows it')
      .option(...JSON_OPTION)
      .action(kick),
    leaseCommand(),
    overlaysCommand(),
    onGateway('reload', 'read the configuration and all it names again; all of it or nothing')
      .option(...JSON_OPTION)
      .action(reload),
    onGateway('drain', 'let nobody in any more, and end when the last session has')
      .option(...JSON_OPTION)
      .action(drain),
  ]
}

async function sessions(flags: AdminFlags & AnswerFlags): Promise<void> {
  const list = await askSessions(flags)
  const width = process.stdout.isTTY ? process.stdout.columns : undefined
  const text = flags.json === true ? `${JSON.stringify(list, null, 2)}\n` : sessionTable(list, Date.now(), width)
  process.stdout.write(text)
}

async function kick(id: string, flags: AdminFlags & AnswerFlags): Promise<void> {
  const { status, body } = await ask(flags, 'DELETE', `/v1/sessions/${encodeURIComponent(id)}`)
  if (status !== HTTP.NO_CONTENT) throw new Error(errorOf(body))
  answer(flags, { kicked: Number(id) })
}

async function reload(flags: AdminFlags & AnswerFlags): Promise<void> {
  const { body } = await ask(flags, 'POST', '/v1/reload')
  const result = reloadResult.parse(body)
  if (flags.json === true) {
    if (result.kind === 'failed') process.exitCode = 1
    return answer(flags, result)
  }
  if (result.kind === 'failed') throw new Error(`all stays as it was:\n${result.problems.join('\n')}`)
  process.stdout.write(`reloaded; sessions ended: ${result.sessionsEnded}\n`)
}

async function drain(flags: AdminFlags & AnswerFlags): Promise<void> {
  const { status, body } = await ask(flags, 'POST', '/v1/drain')
  if (status !== HTTP.ACCEPTED) throw new Error(errorOf(body))
  answer(flags, { draining: true }, 'draining')
}
