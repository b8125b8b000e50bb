import type { Identity, Rights } from '../policy/identity.ts'
import { nameOf } from '../policy/identity.ts'
import { printable } from '../protocol/strings.ts'
import type { Ground, Prepared } from './ground.ts'
import { safeName } from './names.ts'
import { environment, fill } from './placeholders.ts'
import type { Guest, Verdict } from './preparing.ts'
import { runProgram } from './run-program.ts'

const REFUSED: Verdict = { kind: 'refused', reason: 'authorize', message: 'this export is not for you now' }

/** Asks `authorize` of an export. Whatever else happens than a yes is a no. Never rejects. */
export async function askProgram(
  ground: Ground,
  { name, hooks }: Prepared,
  guest: Guest,
  granted: { readonly rights: Rights; readonly rule: string },
): Promise<Verdict> {
  const { log, guard, draining, turns } = ground
  const { identity } = guest.asker
  const who = nameOf(identity)
  const [program = '', ...args] = hooks.authorize ?? []
  const values = { export: safeName(name), identity: safeName(who) }
  const facts = { conn: guest.conn, export: printable(name), who, hook: 'authorize' }
  const begin = performance.now()
  const end = await turns.run(`${name} authorize`, () =>
    runProgram(
      { argv: [program, ...fill(args, values)], env: environment(values), folder: hooks.folder },
      {
        timeoutMs: hooks.timeoutMs,
        guard,
        signal: draining,
        say: (line, left) => log.info({ ...facts, line, ...(left > 0 && { left }) }, 'program says'),
        input: `${JSON.stringify(factsOf(name, guest, granted))}\n`,
      },
    ),
  )
  const ms = Math.round(performance.now() - begin)
  if (end.kind === 'failed') {
    const { why, last } = end
    // Exit 1 is a no; anything else may be a mistake.
    const told = { ...facts, program, why, ms, ...(last !== '' && { last }) }
    if (why === 'exit 1') log.info(told, 'hook failed')
    else log.error(told, 'hook failed')
    return REFUSED
  }
  log.debug({ ...facts, ms }, 'hook done')
  return { kind: 'granted', rights: end.output.trim() === 'read' ? 'read' : granted.rights }
}

/** What a program is told. Fields are only ever added. */
function factsOf(name: string, { asker, conn, peer }: Guest, granted: { rights: Rights; rule: string }): object {
  const { identity, door } = asker
  const { rights, rule } = granted
  return { export: name, rights, rule, door, conn, peer, who: nameOf(identity), identity: identityOf(identity) }
}

function identityOf({ address, certificate, psk, ssh, uid, gid }: Identity): object {
  return { address, certificate, psk, ssh, uid, gid }
}
