/**
 * The gateway as seen from outside: its metrics, whether it is ready, what its exports do. All is put together when
 * somebody asks. The sessions may run elsewhere: what they count comes as plain data, from as many processes as there are.
 */
import type { ExportFacts, GatewayFacts, LeaseFacts, Observed, ReadinessCheck, SessionFacts } from '../admin/managed.ts'
import type { Config, ExportConfig } from '../config/config.ts'
import { upstreamText } from '../config/upstream-text.ts'
import type { Audit } from '../observe/audit.ts'
import { gauge, type MetricFamily, type Value } from '../observe/metric-family.ts'
import { type RegionFacts, sumRegions } from '../observe/region-counts.ts'
import { type ExportTraffic, exportLabel, OTHER } from '../observe/session-meters.ts'
import { VERSION } from '../observe/version.ts'
import { printable } from '../protocol/strings.ts'
import { buildFamilies } from './build-info.ts'
import { groupBy } from './group-by.ts'
import { certificateFacts, type MaterialLife, materialFamilies, materialLives } from './material-life.ts'
import { findings } from './material-watch.ts'
import { sumTraffic } from './traffic.ts'
import { UpstreamHealth } from './upstream-health.ts'

/** How long what was found in files of key material holds. */
const MATERIAL_FRESH_MS = 30_000

/** What there is to look at. */
export interface OverviewOptions {
  readonly config: () => Config
  /** Its exports, and those that upstreams list. */
  readonly published: () => readonly ExportConfig[]
  readonly sessions: () => Promise<readonly SessionFacts[]>
  readonly leases: () => readonly LeaseFacts[]
  /** Connections that count against `limits.sessions`. */
  readonly connections: () => number
  readonly audit: Audit
  readonly doors: () => GatewayFacts['doors']
  readonly isDraining: () => boolean
  readonly lastReload: () => 'reloaded' | 'failed' | undefined
  /** What each process with sessions has counted. */
  readonly gather: () => Promise<readonly (readonly MetricFamily[])[]>
  /** The same of exports alone, and of the regions of one. */
  readonly traffic: () => Promise<readonly (readonly ExportTraffic[])[]>
  readonly regions: (name: string) => Promise<readonly RegionFacts[]>
  /** Processes that sessions run in beside this one. */
  readonly workers: number
}

/** What an overview can tell. */
export type Overview = Pick<
  Observed,
  'about' | 'certificates' | 'exports' | 'metrics' | 'readiness' | 'regions' | 'traffic'
>

export function createOverview(options: OverviewOptions): Overview {
  const { config, published, gather } = options
  const health = new UpstreamHealth()
  const material = new MaterialView(config)
  const startMs = Date.now()
  const markServing = async (): Promise<readonly SessionFacts[]> => {
    const sessions = await options.sessions()
    const namesOf = (isLost: boolean): ReadonlySet<string> =>
      new Set(sessions.filter(({ upstreamLost }) => upstreamLost === isLost).map(session => session.export))
    const [serving, waiting] = [namesOf(false), namesOf(true)]
    for (const each of published()) {
      const name = printable(each.name)
      if (waiting.has(name)) health.fails(each)
      else if (serving.has(name)) health.serves(each)
    }
    return sessions
  }
  return {
    about: () => aboutGateway(options, startMs),
    certificates: () => certificateFacts(material.lives(), Date.now()),
    traffic: async () => sumTraffic(published(), await options.traffic()),
    regions: async name => await regionsOf(options, name),
    exports: async () => {
      const traffic = sumTraffic(published(), await options.traffic())
      return exportFacts(options, health, { traffic, sessions: await markServing() })
    },
    metrics: async () => {
      await markServing()
      // Not waited for: what it finds is in the next scrape.
      void health.refresh(askable(config()))
      return [[...ownFamilies(options, health, material), ...startFamilies(startMs)], ...(await gather())]
    },
    readiness: async names => {
      const all = askable(config())
      const meant =
        names === undefined ? all : [...all, ...published()].filter(({ name }) => names.includes(printable(name)))
      await markServing()
      await health.refresh(all)
      return [
        { name: 'doors', problems: doorProblems(options) },
        { name: 'upstreams', problems: [...absent(names, meant), ...upstreamProblems(meant, health)] },
        { name: 'certificates', problems: material.problems() },
        { name: 'audit trail', problems: auditProblems(options) },
      ] satisfies ReadinessCheck[]
    },
  }
}

function aboutGateway(options: OverviewOptions, startMs: number): GatewayFacts {
  const { config, workers, audit } = options
  return {
    version: VERSION,
    node: process.versions.node,
    since: new Date(startMs).toISOString(),
    workers,
    doors: options.doors().map(({ kind, address }) => ({ kind, address })),
    draining: options.isDraining(),
    connections: options.connections(),
    connectionsLimit: config().limits.sessions,
    lastReload: options.lastReload(),
    auditFailing: audit.state()?.failing === true,
  }
}

/** What nobody has counted, since nobody has been there, is nothing. */
async function regionsOf({ published, regions }: OverviewOptions, name: string): Promise<RegionFacts | undefined> {
  const found = published().find(each => printable(each.name) === name)
  if (found === undefined) return undefined
  return sumRegions(await regions(found.name)) ?? { sizeBytes: 0, regionBytes: 1, reads: [], writes: [] }
}

/** Files of key material, looked at now and then. */
class MaterialView {
  readonly #config: () => Config
  #of: Config | undefined
  #atMs = 0
  #lives: readonly MaterialLife[] = []
  #problems: readonly string[] = []

  constructor(config: () => Config) {
    this.#config = config
  }

  lives(): readonly MaterialLife[] {
    this.#look()
    return this.#lives
  }

  /** What can not be used any more. */
  problems(): readonly string[] {
    this.#look()
    return this.#problems
  }

  #look(): void {
    const config = this.#config()
    if (this.#of === config && performance.now() - this.#atMs < MATERIAL_FRESH_MS) return
    this.#of = config
    this.#atMs = performance.now()
    this.#lives = materialLives(config, Date.now())
    this.#problems = findings(config).flatMap(({ level, text }) => (level === 'error' ? [text] : []))
  }
}

function ownFamilies(options: OverviewOptions, health: UpstreamHealth, material: MaterialView): MetricFamily[] {
  const { exports, limits, doors } = options.config()
  const limited = exports.flatMap(({ name, limits: { sessions } }): Value[] =>
    sessions === undefined ? [] : [[sessions, { export: exportLabel(name) }]],
  )
  const asked = askable(options.config()).flatMap((each): Value[] => {
    const known = health.of(each)
    return known === undefined ? [] : [[Number(known.problem === undefined), { export: exportLabel(each.name) }]]
  })
  const kinds = [...new Set(doors.map(({ kind }) => kind))]
  const open = kinds.map((kind): Value => [options.doors().filter(door => door.kind === kind).length, { kind }])
  return [
    ...buildFamilies(),
    gauge('nbdgate_connections', 'Connections from accept to close.', [[options.connections()]]),
    gauge('nbdgate_connections_limit', 'How many there may be at once: limits.sessions.', [[limits.sessions]]),
    gauge('nbdgate_export_sessions_limit', 'Sessions that an export may have at once, where that is limited.', limited),
    gauge('nbdgate_doors', 'Doors that are open.', open),
    gauge('nbdgate_draining', 'Whether nobody is let in any more.', [[Number(options.isDraining())]]),
    gauge('nbdgate_leases', 'Holders of leases.', leaseValues(exports, ownLeases(options.leases()))),
    gauge('nbdgate_upstream_up', 'Whether the upstream answered when it was asked last.', asked, 'min'),
    gauge('nbdgate_config_last_reload_successful', 'Whether the last reload was; 1 before the first one.', [
      [Number(options.lastReload() !== 'failed')],
    ]),
    ...materialFamilies(material.lives(), Date.now()),
    ...auditFamilies(options.audit),
  ]
}

function startFamilies(startMs: number): readonly MetricFamily[] {
  return [gauge('nbdgate_start_time_seconds', 'When the gateway started.', [[startMs / 1000]], 'min')]
}

/** Other gateways count theirs. */
function ownLeases(leases: readonly LeaseFacts[]): readonly LeaseFacts[] {
  return leases.filter(({ gateway }) => gateway === undefined)
}

/** Those of exports that upstreams list are counted together. */
function leaseValues(exports: readonly ExportConfig[], leases: readonly LeaseFacts[]): readonly Value[] {
  const names = new Set(exports.map(({ name }) => printable(name)))
  const held = groupBy(
    leases,
    lease => `${lease.access} ${names.has(lease.export) ? exportLabel(lease.export) : OTHER}`,
  )
  const labels = [
    ...exports.map(({ name }) => exportLabel(name)),
    ...(leases.some(each => !names.has(each.export)) ? [OTHER] : []),
  ]
  return labels.flatMap(name =>
    ['read', 'write'].map((access): Value => [held.get(`${access} ${name}`)?.length ?? 0, { export: name, access }]),
  )
}

function auditFamilies(audit: Audit): readonly MetricFamily[] {
  const state = audit.state()
  if (state === undefined) return []
  return [
    gauge('nbdgate_audit_failing', 'Whether the audit trail can not be written.', [[Number(state.failing)]]),
    gauge('nbdgate_audit_waiting_records', 'Records of the audit trail that wait in memory.', [[state.waiting]]),
    gauge('nbdgate_audit_lost_records', 'Records that were lost and that the trail does not tell of yet.', [
      [state.lost],
    ]),
  ]
}

/** What is going on where the sessions are. */
interface Going {
  readonly traffic: readonly ExportTraffic[]
  readonly sessions: readonly SessionFacts[]
}

function exportFacts(
  options: OverviewOptions,
  health: UpstreamHealth,
  { traffic, sessions }: Going,
): readonly ExportFacts[] {
  const leases = groupBy(options.leases(), lease => lease.export)
  const ids = groupBy(sessions, session => session.export)
  const passed = new Map(traffic.map(each => [each.name, each]))
  return options.published().map(each => {
    const name = printable(each.name)
    const known = health.of(each)
    return {
      name,
      listed: each.isListed === true,
      description: each.description,
      upstream: upstreamText(each.upstream),
      upstreamState: known === undefined ? 'unknown' : known.problem === undefined ? 'up' : 'down',
      doors: each.doors,
      sharing: each.sharing.mode,
      sessions: ids.get(name)?.map(({ id }) => id) ?? [],
      leases: leases.get(name) ?? [],
      bytesRead: passed.get(exportLabel(each.name))?.bytesRead ?? 0,
      bytesWritten: passed.get(exportLabel(each.name))?.bytesWritten ?? 0,
    }
  })
}

/** Something that an upstream is asked for. */
type Askable = Pick<ExportConfig, 'name' | 'upstream'>

/** What is written down: exports, and servers whose exports are published, by the names that they are published under. */
function askable({ exports, discoveries = [] }: Config): readonly Askable[] {
  return [...exports, ...discoveries.map(({ pattern, from }) => ({ name: pattern, upstream: from }))]
}

function doorProblems({ isDraining, doors }: OverviewOptions): readonly string[] {
  if (isDraining()) return ['the gateway is draining']
  return doors().length === 0 ? ['no door is open'] : []
}

function absent(names: readonly string[] | undefined, meant: readonly Askable[]): readonly string[] {
  const missing = names?.filter(name => !meant.some(each => printable(each.name) === name)) ?? []
  return missing.map(name => `${printable(name)}: there is no such export`)
}

function upstreamProblems(exports: readonly Askable[], health: UpstreamHealth): readonly string[] {
  return exports.flatMap(each => {
    const problem = health.of(each)?.problem
    return problem === undefined ? [] : [`${printable(each.name)}: ${upstreamText(each.upstream)}: ${problem}`]
  })
}

function auditProblems({ audit, config }: OverviewOptions): readonly string[] {
  const isFatal = config().audit?.onFailure === 'refuse' && audit.state()?.failing === true
  return isFatal ? ['the audit trail can not be written: nobody new gets in'] : []
}
