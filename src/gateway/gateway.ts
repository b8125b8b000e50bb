/**
 * The whole gateway, put together: configuration in, open doors out. Reads the key material, makes the control plane,
 * opens the doors, starts a session for every visitor that the limits let in, and changes all of it for another
 * configuration while sessions run.
 */
import type { LeaseFacts, SessionExplanation, SessionFacts } from '../admin/managed.ts'
import type { Config } from '../config/config.ts'
import { upstreamsOf } from '../config/named-files.ts'
import type { Door, Reception, Visitor } from '../doors/door.ts'
import { type Audit, NO_AUDIT } from '../observe/audit.ts'
import type { Log } from '../observe/log.ts'
import { throttleRefusals } from '../observe/refusal-throttle.ts'
import { Telemetry } from '../observe/telemetry.ts'
import { openAudit } from '../observe/trail-queue.ts'
import { loadClientMaterial } from '../pki/material.ts'
import type { Misfit } from '../sharing/leases.ts'
import { MemoryLeases } from '../sharing/memory-leases.ts'
import { DialQueue } from '../upstreams/dial-queue.ts'
import { createControl } from './control.ts'
import { Discoveries } from './discovery.ts'
import { DoorSet } from './door-set.ts'
import { leaseFacts, releaseLease } from './lease-admin.ts'
import { Limits } from './limits.ts'
import { LuksGuards } from './luks-check.ts'
import { watchMaterial } from './material-watch.ts'
import { createOverview, type Overview } from './overview.ts'
import { RateBook } from './rates.ts'
import { type Session, startSession } from './session.ts'
import { settleAll } from './takeover.ts'

/** A running gateway. */
export interface Gateway extends Overview {
  readonly doors: readonly Door[]

  /**
   * Takes the configuration that `load` returns, all of it or, when it or this throws, nothing. Sessions whose rights are gone or less are ended;
   * the others do not notice. What `log`, `state`, `audit` and `admin` say holds from the next start. Returns how many were ended.
   * @throws MaterialError, DoorError, and what `load` throws
   */
  reload(load: () => Config): Promise<number>

  /** The sessions in transmission phase, the oldest first. */
  sessions(): Promise<readonly SessionFacts[]>

  /** What the rules say of one of them now; undefined if there is none of this number. */
  explain(id: number): Promise<SessionExplanation | undefined>

  /** Ends one of them now; false if there is none of this number. */
  kick(id: number): Promise<boolean>

  /** Who is on which export, the oldest first. */
  leases(): readonly LeaseFacts[]

  /** Ends the sessions of an export's holders, or of one, and waits until their leases are free; how many there were. */
  releaseLease(name: string, holder: string | undefined): Promise<number>

  /** Lets nobody in any more, tells who is haggling so, and waits `ms` at most for sessions to end before ending them. */
  drain(ms: number): Promise<void>

  /** Ends every session now. */
  stop(): Promise<void>
}

/**
 * Starts a gateway: all doors open, or none. `telemetry`: what counts, and hears `log`.
 * @throws MaterialError for a certificate or key that can not be used, DoorError for a door that can not be opened,
 * AuditError for a trail that can not be used
 */
export async function startGateway(config: Config, log: Log, telemetry = new Telemetry()): Promise<Gateway> {
  telemetry.retain(config.exports.map(({ name }) => name))
  checkUpstreamMaterial(config, log)
  const leases = new MemoryLeases()
  const discoveries = new Discoveries(log, () => void control.replace(discoveries.extend(current)))
  const control = createControl(config, leases, each => discoveries.seek(each))
  const audit = await beginAudit(config, log)
  const limits = new Limits(config.limits)
  const dials = new DialQueue()
  const rates = new RateBook()
  const guards = new LuksGuards()
  /** By `conn`, the oldest first. */
  const sessions = new Map<number, Session>()
  const among = (conns: readonly number[]): readonly Session[] => conns.flatMap(each => sessions.get(each) ?? [])
  const settle = (conns: readonly number[]): Promise<void> => settleAll(among(conns))
  let current = config
  await discoveries.prepare(config)
  discoveries.follow(config)
  let draining = false
  let conn = 0

  const enter = (visitor: Visitor): void => {
    const shared = { control, audit, dials, rates, guards, settle, log, meters: telemetry.meters }
    const id = ++conn
    const context = { ...shared, conn: id, limits: current.limits, isDraining: () => draining }
    const session = startSession(visitor, context)
    sessions.set(id, session)
    void session.done.finally(() => {
      sessions.delete(id)
      limits.leave(visitor.identity.address)
    })
  }
  const reception: Reception = {
    get vanishedMs() {
      return current.leases.vanishedMs
    },
    enter,
    admit: address => limits.admit(address),
    left: address => limits.leave(address),
    turnedAway: (peer, reason, facts) => log.warn({ peer, reason, ...facts }, 'turned away'),
    failed: error => log.error({ err: error }, 'door failed'),
  }
  const doorSet = new DoorSet(reception, log)
  try {
    await doorSet.apply(config.doors, config.limits.negotiationMs, () => {})
  } catch (error) {
    await endAudit(audit)
    throw error
  }
  const unwatch = watchMaterial(() => current, log)
  log.info({ doors: doorSet.doors.map(({ kind, address }) => ({ kind, address })) }, 'gateway ready')

  const take = async (next: Config): Promise<number> => {
    checkUpstreamMaterial(next, log)
    let misfits: readonly Misfit[] = []
    await discoveries.prepare(next)
    const changes = await doorSet.apply(next.doors, next.limits.negotiationMs, () => {
      discoveries.follow(next)
      misfits = control.replace(discoveries.extend(next))
      limits.replace(next.limits)
      telemetry.retain(next.exports.map(({ name }) => name))
      current = next
    })
    const rechecked = [...sessions].map(async ([id, session]) => ((await session.recheck()) ? [id] : []))
    const ended = new Set((await Promise.all(rechecked)).flat())
    for (const { session, by } of misfits.filter(each => !ended.has(each.session))) {
      sessions.get(session)?.retire(`no longer allowed: sharing ${by.mode}, and ${by.who} was there before`)
      ended.add(session)
    }
    const sessionsEnded = ended.size
    log.info({ ...changes, sessionsEnded }, 'reloaded')
    audit.note('reloaded', { ...changes, sessionsEnded })
    return sessionsEnded
  }
  const reload = async (load: () => Config): Promise<number> => {
    try {
      return await take(load())
    } catch (error) {
      audit.note('reload failed', { problem: error instanceof Error ? error.message : String(error) })
      throw error
    }
  }
  const end = async (): Promise<void> => {
    draining = true
    leases.dismiss()
    discoveries.close()
    unwatch()
    await doorSet.close()
    const open = [...sessions.values()]
    for (const session of open) session.stop('gateway stopped')
    await Promise.all(open.map(session => session.done))
    await endAudit(audit)
  }
  let ended: Promise<void> | undefined
  const stop = (): Promise<void> => {
    ended ??= end()
    return ended
  }
  const drain = async (ms: number): Promise<void> => {
    draining = true
    leases.dismiss()
    await doorSet.close()
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>(resolve => {
      timer = setTimeout(resolve, ms)
    })
    await Promise.race([Promise.all([...sessions.values()].map(session => session.done)), late])
    clearTimeout(timer)
    await stop()
  }
  const facts = async (): Promise<readonly SessionFacts[]> =>
    [...sessions.values()].flatMap(session => session.facts() ?? [])
  const find = (id: number): Session | undefined => {
    const session = sessions.get(id)
    return session?.facts() === undefined ? undefined : session
  }
  const kick = async (id: number): Promise<boolean> => {
    const session = find(id)
    session?.retire('kicked')
    return session !== undefined
  }
  const leaseList = (): readonly LeaseFacts[] => leases.list().map(leaseFacts)
  const overview = createOverview({
    config: () => current,
    sessions: facts,
    leases: leaseList,
    connections: () => limits.count,
    audit,
    doors: () => doorSet.doors,
    isDraining: () => draining,
    lastReload: () => telemetry.lastReload,
    gather: async () => [telemetry.families()],
  })
  return {
    get doors() {
      return doorSet.doors
    },
    ...overview,
    sessions: facts,
    explain: async id => await find(id)?.explain(),
    kick,
    leases: leaseList,
    releaseLease: (name, holder) => releaseLease(leases.list(), name, holder, among),
    reload,
    drain,
    stop,
  }
}

/** The trail begins before the first door opens: it tells how each session came to be. */
async function beginAudit(config: Config, log: Log): Promise<Audit> {
  if (config.state === undefined || config.audit === undefined) return NO_AUDIT
  const audit = throttleRefusals(await openAudit({ dir: config.state, ...config.audit, log }))
  audit.note('gateway started', { pid: process.pid, config: config.file })
  return audit
}

async function endAudit(audit: Audit): Promise<void> {
  audit.note('gateway stopped', { pid: process.pid })
  await audit.close()
}

/** Loaded again at each dial; here so that what can not work is said before a door opens. */
function checkUpstreamMaterial(config: Config, log: Log): void {
  for (const upstream of upstreamsOf(config)) {
    if (upstream.kind === 'file' || !upstream.tls) continue
    for (const warning of loadClientMaterial(upstream).warnings) log.warn({ warning }, 'key material')
  }
}
