// `nbdgate explain`: what the rules of a configuration say of somebody. Asks the function that the gateway asks, and
// reads the configuration only: no key, no upstream, no running gateway is needed.
import { Command, Option } from 'commander'
import * as z from 'zod'
import { parseAddress } from '../config/cidr.ts'
import type { Config, DiscoveryConfig, SharingMode } from '../config/config.ts'
import { globMatches } from '../config/glob.ts'
import { loadConfig } from '../config/load.ts'
import { compileCidrs } from '../policy/cidr.ts'
import { parseClaims } from '../policy/claims.ts'
import { compileGroups, compilePolicy } from '../policy/compile.ts'
import { type Explanation, explain, type Step } from '../policy/explain.ts'
import type { DoorKind, Identity } from '../policy/identity.ts'
import { whoProblem } from '../policy/who.ts'
import { printable } from '../protocol/strings.ts'
import { ask, errorOf } from './admin-client.ts'
import { UsageError } from './errors.ts'

interface ExplainFlags {
  readonly config?: string
  readonly export?: string
  readonly session?: string
  readonly socket?: string
  readonly as: readonly string[]
  readonly from?: string
  readonly door?: DoorKind
  readonly json?: boolean
}

/** An explanation as the admin socket gives it. */
const explanation = z.object({
  decision: z.discriminatedUnion('kind', [
    z.object({
      kind: z.literal('granted'),
      rights: z.enum(['read', 'write']),
      rule: z.string(),
      untilMs: z.number().exactOptional(),
    }),
    z.object({
      kind: z.literal('refused'),
      reason: z.enum(['no such export', 'wrong door', 'denied', 'no rule', 'expired']),
      rule: z.string().exactOptional(),
    }),
  ]),
  steps: z.array(
    z.object({
      rule: z.string(),
      kind: z.enum(['deny', 'allow']),
      rights: z.enum(['read', 'write']).exactOptional(),
      untilMs: z.number().exactOptional(),
      who: z.array(z.string()),
      outcome: z.enum(['decides', 'not met', 'expired', 'outdone', 'not looked at']),
      unmet: z.array(z.string()),
    }),
  ),
  sharing: z.enum(['exclusive', 'readers-or-writer', 'single-writer', 'cluster', 'read-only']).exactOptional(),
})

const DOORS: readonly DoorKind[] = ['tls', 'ssh', 'tcp', 'unix']

/** `nbdgate explain`. */
export function explainCommand(): Command {
  return new Command('explain')
    .description('say what would be decided for somebody, and by which line; exit 0: allowed, 1: refused')
    .option('-c, --config <file>', 'configuration (YAML)')
    .option('--export <name>', 'what is asked for')
    .option(
      '--as <who>',
      'who asks: cert:cn=alice, uid:1000, … (repeatable)',
      (who, all: string[]) => [...all, who],
      [],
    )
    .option('--from <address>', 'where the visitor comes from')
    .addOption(new Option('--door <kind>', 'by which door (default: what fits the visitor)').choices(DOORS))
    .option('--session <id>', 'instead of all that: a session of the running gateway, as `sessions` shows it')
    .option('--socket <path>', "the gateway's admin socket (default: the one that the configuration names)")
    .option('--json', 'print JSON')
    .action((flags: ExplainFlags) => (flags.session === undefined ? ofRules(flags) : ofSession(flags.session, flags)))
}

/** What the running gateway says of one of its sessions. */
async function ofSession(id: string, flags: ExplainFlags): Promise<void> {
  if (flags.as.length > 0 || flags.export !== undefined || flags.from !== undefined || flags.door !== undefined) {
    throw new UsageError('--session says it all: who, from where, by which door, and to which export')
  }
  const { status, body } = await ask(flags, 'GET', `/v1/sessions/${encodeURIComponent(id)}/explanation`)
  if (status !== 200) throw new Error(errorOf(body))
  const explained = explanation.parse(body)
  if (explained.decision.kind === 'refused') process.exitCode = 1
  const text =
    flags.json === true
      ? JSON.stringify(explained, undefined, 2)
      : [...lines(explained, undefined, undefined), ...sharingLines(explained, explained.sharing)].join('\n')
  process.stdout.write(`${text}\n`)
}

function ofRules(flags: ExplainFlags): void {
  if (flags.config === undefined || flags.export === undefined) {
    throw new UsageError('--config FILE and --export NAME, or --session ID')
  }
  const config = loadConfig(flags.config, { validateWho: whoProblem })
  const identity = identityOf(flags)
  const door = doorOf(flags.door, identity, config)
  const entry = config.exports.find(({ name }) => name === flags.export) ?? listedAs(flags.export, config)
  const policy = entry === undefined ? undefined : compilePolicy(entry, compileGroups(config.groups))
  const cut = cutAtAccept(identity, door, config)
  const explained = explain(policy, { identity, door }, Date.now())
  const sharing = entry?.sharing.mode
  const allowed = explained.decision.kind === 'granted' && cut === undefined
  if (!allowed) process.exitCode = 1
  const asked = { export: flags.export, door, as: flags.as, ...(flags.from !== undefined && { from: flags.from }) }
  const answer = { allowed, ...asked, ...(cut !== undefined && { turnedAway: cut }), sharing, ...explained }
  process.stdout.write(
    flags.json === true
      ? `${JSON.stringify(answer, undefined, 2)}\n`
      : `${[...lines(explained, door, cut), ...sharingLines(explained, sharing)].join('\n')}\n`,
  )
}

/** The entry by which an upstream would publish the name, if it lists it. */
function listedAs(name: string, { discoveries = [] }: Config): DiscoveryConfig | undefined {
  return discoveries.find(({ prefix, pattern }) => name.startsWith(prefix) && globMatches(pattern, name))
}

function identityOf({ as, from }: ExplainFlags): Identity {
  if (from !== undefined && parseAddress(from) === undefined) {
    throw new UsageError(`--from ${printable(from, 64)}: this is not an address`)
  }
  const claims = parseClaims(from === undefined ? as : [...as, `address:${from}`])
  if (!claims.ok) throw new UsageError(`--as ${claims.problem}`)
  return claims.value
}

/** The door that was named, or the only kind that fits. */
function doorOf(named: DoorKind | undefined, identity: Identity, config: Config): DoorKind {
  if (named !== undefined) return named
  if (identity.certificate !== undefined || identity.psk !== undefined) return 'tls'
  if (identity.ssh !== undefined) return 'ssh'
  if (identity.uid !== undefined || identity.gid !== undefined) return 'unix'
  const kinds = new Set(
    config.doors.map(({ kind }) => kind).filter(kind => kind !== 'unix' || identity.address === undefined),
  )
  const [only] = kinds
  if (only === undefined || kinds.size > 1)
    throw new UsageError('there are several kinds of doors: say which with --door')
  return only
}

/** Why the connection would not even be greeted: `from` of every tcp door leaves its address out. */
function cutAtAccept({ address }: Identity, door: DoorKind, config: Config): string | undefined {
  if (
    !config.doors.some(
      each => each.kind === door || (each.kind === 'tls' && each.mode === 'selective' && door === 'tcp'),
    )
  ) {
    return `there is no ${door} door`
  }
  if (door !== 'tcp' || address === undefined) return undefined
  const isOpen = config.doors.some(each => {
    if (each.kind === 'tcp') return compileCidrs(each.from)(address)
    return each.kind === 'tls' && each.mode === 'selective'
  })
  return isOpen ? undefined : 'not in `from` of any tcp door'
}

function lines(
  { decision, steps }: Explanation,
  door: DoorKind | undefined,
  cut: string | undefined,
): readonly string[] {
  const by = decision.rule === undefined ? '' : `, by ${decision.rule}`
  const until = 'untilMs' in decision && decision.untilMs !== undefined ? `, until ${timeText(decision.untilMs)}` : ''
  const verdict =
    decision.kind === 'granted'
      ? `allowed: ${decision.rights}${by}${until}`
      : `refused: ${decision.reason}${by}${decision.reason === 'wrong door' ? `: ${door ?? 'its door'} does not lead here` : ''}`
  return [
    cut === undefined ? verdict : `refused: turned away: ${cut} (the rules alone: ${verdict})`,
    ...steps.map(stepLine),
  ]
}

/** What the rules do not say: that who may write does not. */
function sharingLines({ decision }: Explanation, sharing: SharingMode | undefined): readonly string[] {
  const isCut = decision.kind === 'granted' && decision.rights === 'write' && sharing === 'read-only'
  return isCut ? ['  sharing: read-only: nobody writes, whatever its rights'] : []
}

function stepLine({ rule, kind, rights, untilMs, who, outcome, unmet }: Step): string {
  const what = `${rights === undefined ? kind : `${kind} ${rights}`} ${who.join(' + ')}`
  const until = untilMs === undefined ? '' : ` until ${timeText(untilMs)}`
  const why = outcome === 'not met' && unmet.length > 0 ? `not met: ${unmet.join(', ')}` : outcome
  return printable(`  ${rule} ${what}${until}: ${why}`, 4096)
}

function timeText(ms: number): string {
  return new Date(ms).toISOString()
}
