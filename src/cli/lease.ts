import { Command } from 'commander'
import * as z from 'zod'
import { type AdminFlags, ask, errorOf } from './admin-client.ts'
import { type AnswerFlags, answer, JSON_OPTION } from './answer.ts'
import { onGateway } from './on-gateway.ts'
import { ageText, columns } from './session-table.ts'

const HTTP_OK = 200

const leaseList = z.object({
  leases: z.array(
    z.looseObject({
      export: z.string(),
      sharing: z.string(),
      holder: z.string(),
      peer: z.string(),
      access: z.string(),
      since: z.string(),
      sessions: z.array(z.number()),
      gateway: z.string().optional(),
    }),
  ),
})

const releaseResult = z.object({ released: z.number() })

const HEADS = ['EXPORT', 'SHARING', 'HOLDER', 'FROM', 'ACCESS', 'SINCE', 'SESSIONS']

/** `nbdgate lease`: who holds which export. */
export function leaseCommand(): Command {
  return new Command('lease')
    .description('who holds which export')
    .addCommand(onGateway('list', 'all leases').option('--json', 'all facts, as JSON').action(list))
    .addCommand(
      onGateway('release', "end the sessions of an export's holders, and free it")
        .argument('<export>', 'its name')
        .argument('[holder]', 'one holder alone, as `lease list` shows it')
        .option(...JSON_OPTION)
        .action(release),
    )
}

async function list(flags: AdminFlags & AnswerFlags): Promise<void> {
  const { status, body } = await ask(flags, 'GET', '/v1/leases')
  if (status !== HTTP_OK) throw new Error(errorOf(body))
  const { leases } = leaseList.parse(body)
  const now = Date.now()
  const areElsewhere = leases.some(({ gateway }) => gateway !== undefined)
  const rows = leases.map(each => {
    const { sharing, holder, peer, access, since, sessions, gateway = 'this one' } = each
    const name = each.export === '' ? '""' : each.export
    const row = [name, sharing, holder, peer, access, ageText(now - Date.parse(since)), sessions.join(' ')]
    return areElsewhere ? [...row, gateway] : row
  })
  const table =
    rows.length === 0 ? 'nobody holds an export\n' : columns([areElsewhere ? [...HEADS, 'GATEWAY'] : HEADS, ...rows])
  process.stdout.write(flags.json === true ? `${JSON.stringify(leases, null, 2)}\n` : table)
}

async function release(name: string, holder: string | undefined, flags: AdminFlags & AnswerFlags): Promise<void> {
  const query = new URLSearchParams({ export: name, ...(holder !== undefined && { holder }) })
  const { status, body } = await ask(flags, 'DELETE', `/v1/leases?${query}`)
  if (status !== HTTP_OK) throw new Error(errorOf(body))
  answer(flags, releaseResult.parse(body), 'released')
}
