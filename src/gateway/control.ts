/**
 * What a session asks of the rest of the gateway. One small interface, so that a session may run in another process
 * than the configuration: every answer is a promise and every argument plain data.
 */
import { randomUUID } from 'node:crypto'
import type { SessionExplanation } from '../admin/managed.ts'
import type {
  BackendConfig,
  Config,
  DiscoveryConfig,
  ExportConfig,
  LuksConfig,
  OutageConfig,
  UseLimits,
} from '../config/config.ts'
import { globMatches } from '../config/glob.ts'
import type { ListEntry } from '../negotiation/host.ts'
import { rightsClock } from '../platform/rights-clock.ts'
import { compileGroups, compilePolicy, type KnownWho } from '../policy/compile.ts'
import { type Decision, decide, type ExportPolicy } from '../policy/decide.ts'
import { explain } from '../policy/explain.ts'
import { type DoorKind, type Identity, keyOf, nameOf, type Rights } from '../policy/identity.ts'
import type { Term } from '../sharing/fence.ts'
import { busyMessage, type Claim, type Lease, type Leases, type Misfit } from '../sharing/leases.ts'
import type { Rate } from './rates.ts'
import { Tally } from './tally.ts'

/** Who asks, as policy sees it. */
export interface Asker {
  readonly identity: Identity
  readonly door: DoorKind
}

/** A grant, and what the session needs to carry it out. */
export type Granted = Extract<Decision, { kind: 'granted' }> & {
  readonly upstream: BackendConfig
  readonly description: string | undefined
  /** What all the traffic of the export, and that of the asker in it, is limited to. */
  readonly rates: readonly Rate[]
  /** Only LUKS may go out. */
  readonly luks: LuksConfig | undefined
  /** Requests that are not whole blocks are made so. */
  readonly align: boolean
  /** What becomes of the session when its upstream dies. */
  readonly outage: OutageConfig
  /** What has to be run before the upstream is touched. */
  readonly hooks: GrantedHooks | undefined
}

/** Whether a program has to be asked, whether something has to be made ready, and whether for this connection alone. */
export interface GrantedHooks {
  readonly authorize: boolean
  readonly prepare: boolean
  readonly isAlone: boolean
}

/** A connection that wants to be on an export. */
export interface Visit {
  readonly asker: Asker
  /** Names the session. */
  readonly conn: number
  readonly peer: string
  /** No more than this, whatever the rules grant. */
  readonly most?: Rights
}

/** What a session has of an export: one of its places, and a lease if it is not one that only looks on. */
export interface Holding {
  readonly name: string
  readonly visit: Visit
  readonly lease: Rights | undefined
  readonly sinceMs: number
}

/** What a visit may do now, beside others. */
export type Place =
  /**
   * `lease`: undefined for who may only look on. `others`: the sessions of the same holder that were there before. `term`:
   * how long the lease lasts if nobody says more. `epoch`: grows with each holder of the export.
   */
  | {
      readonly kind: 'taken'
      readonly rights: Rights
      readonly lease: Rights | undefined
      readonly others: readonly number[]
      readonly term?: Term | undefined
      readonly epoch?: number | undefined
    }
  | {
      readonly kind: 'refused'
      readonly reason: 'limits.sessions' | 'busy' | 'leases'
      readonly message: string
      readonly by?: Lease
    }

/** A decision as a session gets it. */
export type Ruling = Granted | Extract<Decision, { kind: 'refused' }>

export interface Control {
  /** The exports that the asker may use, for LIST. */
  visible(asker: Asker): Promise<readonly ListEntry[]>

  /** Whether the asker may use an export, with which rights, by which rule. */
  decide(name: string, asker: Asker): Promise<Ruling>

  /** What the rules alone say, each of them, and the sharing that may leave less of it. */
  explain(name: string, asker: Asker): Promise<SessionExplanation>

  /**
   * Takes one of the sessions that the export and the asker may have, and a lease beside those who are there; waits for
   * it where the export says so, unless `signal` says that nobody waits any more. Each yes is followed by one release.
   */
  acquire(name: string, visit: Visit, signal: AbortSignal): Promise<Place>

  /** What the visit would have now, for INFO, which takes nothing: whoever would be refused is told what could be. */
  look(name: string, visit: Visit): Promise<Rights>

  /** The session has begun to end. */
  leaving(conn: number): void
  release(name: string, visit: Visit): void
}

/** The control plane in the same process as its sessions. */
export interface LocalControl extends Control {
  /**
   * Rules and upstreams of another configuration, from now on; the sessions that its sharing has no place for.
   * @throws Error for a rule that can not be compiled: nothing has changed then
   */
  replace(config: Config): readonly Misfit[]

  /** What sessions have, the oldest first. */
  holdings(): readonly Holding[]
  /** Whether a session has something. */
  holds(conn: number): boolean
  /** Sessions have this already, through another process of this gateway; whether it still fits is said by `replace`. */
  restore(holdings: readonly Holding[]): void
}

interface Entry {
  readonly config: ExportConfig
  readonly policy: ExportPolicy
}

/** Looks again for what an upstream lists. Never rejects. */
export type Seek = (discovery: DiscoveryConfig) => Promise<void>

export function createControl(config: Config, leases: Leases, seek: Seek = async () => {}): LocalControl {
  let { entries, listed } = compile(config)
  const sessions = new Tally()
  const held = new Map<number, Holding>()
  const hold = (name: string, visit: Visit, lease: Rights | undefined, sinceMs = Date.now()): void =>
    void held.set(visit.conn, { name, visit, lease, sinceMs })
  const rule = (entry: Entry | undefined, asker: Asker): Decision => {
    const decision = decide(entry?.policy, asker, rightsClock.now())
    const isCut = decision.kind === 'granted' && entry?.config.sharing.mode === 'read-only'
    return isCut ? { ...decision, rights: 'read' } : decision
  }
  const acquire: Control['acquire'] = async (name, visit, signal) => {
    const { asker } = visit
    const entry = entries.get(name)
    const decision = rule(entry, asker)
    const full: Place = { kind: 'refused', reason: 'limits.sessions', message: MANY_SESSIONS }
    if (entry === undefined || decision.kind === 'refused') return full
    const { limits, sharing } = entry.config
    const counts = [
      [exportKey(name), limits.sessions],
      [askerKey(name, asker), decision.limits?.sessions],
    ] as const
    if (!sessions.add(counts)) return full
    const rights = atMost(decision.rights, visit)
    const { whenBusy } = sharing
    const patience = { ms: whenBusy.kind === 'wait' ? whenBusy.ms : 0, signal }
    const answer = await leases.acquire(claimOf(entry.config, visit, rights), patience)
    if (answer.kind === 'held') {
      hold(name, visit, rights)
      return { ...answer, kind: 'taken', rights, lease: rights }
    }
    if (whenBusy.kind === 'read-only') {
      hold(name, visit, undefined)
      return { kind: 'taken', rights: 'read', lease: undefined, others: [] }
    }
    sessions.remove(counts.map(([key]) => key))
    if (answer.kind === 'unavailable') return { kind: 'refused', reason: 'leases', message: NO_LEASES }
    return { kind: 'refused', reason: 'busy', message: busyMessage(answer.by), by: answer.by }
  }
  /** A name that is not there may be new at an upstream; who would not be granted it learns nothing of that. */
  const find = async (name: string, asker: Asker): Promise<void> => {
    const places = listed.filter(
      ({ discovery: { prefix, pattern }, policy }) =>
        name.startsWith(prefix) &&
        globMatches(pattern, name) &&
        decide(policy, asker, rightsClock.now()).kind === 'granted',
    )
    await Promise.all(places.map(({ discovery }) => seek(discovery)))
  }
  return {
    visible: async asker =>
      [...entries.values()]
        .filter(entry => rule(entry, asker).kind === 'granted')
        .map(({ config: { name, description } }) => ({ name, description })),
    decide: async (name, asker) => {
      if (!entries.has(name)) await find(name, asker)
      const entry = entries.get(name)
      const decision = rule(entry, asker)
      if (decision.kind === 'refused') return decision
      if (entry === undefined) return { kind: 'refused', reason: 'no such export' }
      const { upstream, description, limits, luks, align = false, outage = NO_OUTAGE } = entry.config
      const rates = [rateOf(exportKey(name), limits), rateOf(askerKey(name, asker), decision.limits)].flat()
      return { ...decision, upstream, description, rates, luks, align, outage, hooks: hooksOf(entry.config) }
    },
    explain: async (name, asker) => {
      const entry = entries.get(name)
      return { ...explain(entry?.policy, asker, rightsClock.now()), sharing: entry?.config.sharing.mode }
    },
    acquire,
    look: async (name, visit) => {
      const entry = entries.get(name)
      const decision = rule(entry, visit.asker)
      if (entry === undefined || decision.kind === 'refused') return 'read'
      const rights = atMost(decision.rights, visit)
      if (entry.config.sharing.whenBusy.kind !== 'read-only') return rights
      const answer = await leases.look(claimOf(entry.config, visit, rights))
      return answer.kind === 'held' ? rights : 'read'
    },
    leaving: conn => leases.leaving(conn),
    release: (name, { conn, asker }) => {
      held.delete(conn)
      leases.release(conn)
      sessions.remove([exportKey(name), askerKey(name, asker)])
    },
    holdings: () => [...held.values()],
    holds: conn => held.has(conn),
    restore: holdings => {
      for (const { name, visit, lease, sinceMs } of holdings) {
        hold(name, visit, lease, sinceMs)
        sessions.add([
          [exportKey(name), undefined],
          [askerKey(name, visit.asker), undefined],
        ])
        const entry = entries.get(name)
        // Of an export that is gone nobody wants a lease.
        if (lease !== undefined && entry !== undefined) leases.restore(claimOf(entry.config, visit, lease), sinceMs)
      }
    },
    replace: next => {
      ;({ entries, listed } = compile(next))
      return leases.adopt(name => entries.get(name)?.config.sharing.mode)
    },
  }
}

function atMost(rights: Rights, { most }: Visit): Rights {
  return most === 'read' ? 'read' : rights
}

function hooksOf({ upstream, hooks }: ExportConfig): GrantedHooks | undefined {
  if (hooks === undefined) return undefined
  const { prepare, cleanup, authorize, per } = hooks
  const isMade = upstream.kind === 'spawn' || upstream.kind === 'overlay'
  const isPrepared = isMade || prepare !== undefined || cleanup !== undefined
  return { authorize: authorize !== undefined, prepare: isPrepared, isAlone: isPrepared && per === 'connection' }
}

/** Where nothing is said of it, sessions end with their upstream. */
const NO_OUTAGE: OutageConfig = { reconnectMs: 0, replayBytes: 0 }

const NO_LEASES = 'nobody can tell now who else is on this export; its operator can see why'
const MANY_SESSIONS = 'this export has as many sessions as it may'

/** Tells sessions of one gateway from those of others. */
const PROCESS = randomUUID()

function claimOf({ name, sharing, align }: ExportConfig, { asker, conn, peer }: Visit, access: Rights): Claim {
  const { identity } = asker
  // Of whom nothing is known may be anybody: no two of them are one. Nor are two connections whose writes are made whole
  // blocks: what one has written into a block that the other has read would be gone.
  const key = nameOf(identity) === 'unknown' || align === true ? `session ${conn} of ${PROCESS}` : keyOf(identity)
  const holder = sharing.holder === 'identity+address' ? `${key} from ${identity.address ?? ''}` : key
  return { session: conn, export: name, mode: sharing.mode, access, holder, who: nameOf(identity), peer }
}

const exportKey = (name: string): string => `export ${name}`
const askerKey = (name: string, { identity }: Asker): string => `${keyOf(identity)} export ${name}`

function rateOf(key: string, limits: UseLimits | undefined): readonly Rate[] {
  const { read, write, iops } = limits ?? {}
  return read === undefined && write === undefined && iops === undefined ? [] : [{ key, read, write, iops }]
}

interface Compiled {
  readonly entries: ReadonlyMap<string, Entry>
  readonly listed: readonly { readonly discovery: DiscoveryConfig; readonly policy: ExportPolicy }[]
}

function compile(config: Config): Compiled {
  const groups = compileGroups(config.groups)
  const knownWho: KnownWho = new Map()
  const listed = (config.discoveries ?? []).map(discovery => ({
    discovery,
    policy: compilePolicy(discovery, groups, knownWho),
  }))
  // Of thousands that one entry publishes, each has the rules of that entry.
  const known = new Map(listed.map(({ discovery, policy }) => [discovery.allow, policy]))
  const policyOf = (each: ExportConfig): ExportPolicy => known.get(each.allow) ?? compilePolicy(each, groups, knownWho)
  return { entries: new Map(config.exports.map(each => [each.name, { config: each, policy: policyOf(each) }])), listed }
}
