import { Command } from 'commander'
import * as z from 'zod'
import { type AdminFlags, ask, errorOf } from './admin-client.ts'
import { type AnswerFlags, answer, JSON_OPTION } from './answer.ts'
import { bytesText } from './connect-progress.ts'
import { onGateway } from './on-gateway.ts'
import { ageText, columns } from './session-table.ts'

const HTTP = { OK: 200, NO_CONTENT: 204 } as const

const overlayList = z.object({
  overlays: z.array(
    z.looseObject({
      id: z.string(),
      export: z.string(),
      who: z.string(),
      per: z.string(),
      used: z.string(),
      kept: z.boolean(),
      sessions: z.array(z.number()),
      bytes: z.number().optional(),
    }),
  ),
})

const HEADS = ['ID', 'EXPORT', 'FOR', 'PER', 'SIZE', 'USED', 'KEPT', 'SESSIONS']

/** `nbdgate overlays`: what was made for whom. */
export function overlaysCommand(): Command {
  return new Command('overlays')
    .description('what `prepare` has made and `spawn` has started, for whom')
    .addCommand(onGateway('list', 'all of them').option('--json', 'all facts, as JSON').action(list))
    .addCommand(
      onGateway('rm', 'clean one up that nobody uses')
        .argument('<id>', 'as `overlays list` shows it')
        .option(...JSON_OPTION)
        .action(remove),
    )
    .addCommand(
      onGateway('keep', 'keep one however old it gets')
        .argument('<id>', 'as `overlays list` shows it')
        .option('--undo', 'let it age again')
        .option(...JSON_OPTION)
        .action(keep),
    )
}

async function list(flags: AdminFlags & AnswerFlags): Promise<void> {
  const { status, body } = await ask(flags, 'GET', '/v1/overlays')
  if (status !== HTTP.OK) throw new Error(errorOf(body))
  const { overlays } = overlayList.parse(body)
  const now = Date.now()
  const rows = overlays.map(({ id, export: name, who, per, bytes, used, kept, sessions }) => {
    const size = bytes === undefined ? '-' : bytesText(bytes)
    const age = sessions.length > 0 ? 'now' : `${ageText(now - Date.parse(used))} ago`
    return [id, name === '' ? '""' : name, who, per, size, age, kept ? 'yes' : 'no', sessions.join(' ')]
  })
  const table = rows.length === 0 ? 'there are none\n' : columns([HEADS, ...rows])
  process.stdout.write(flags.json === true ? `${JSON.stringify(overlays, null, 2)}\n` : table)
}

async function remove(id: string, flags: AdminFlags & AnswerFlags): Promise<void> {
  const { status, body } = await ask(flags, 'DELETE', `/v1/overlays/${encodeURIComponent(id)}`)
  if (status !== HTTP.NO_CONTENT) throw new Error(errorOf(body))
  answer(flags, { removed: id }, 'removed')
}

async function keep(id: string, flags: AdminFlags & AnswerFlags & { readonly undo?: boolean }): Promise<void> {
  const kept = flags.undo !== true
  const { status, body } = await ask(flags, 'PUT', `/v1/overlays/${encodeURIComponent(id)}/kept`, { kept })
  if (status !== HTTP.NO_CONTENT) throw new Error(errorOf(body))
  answer(flags, { id, kept }, kept ? 'kept' : 'ages again')
}
