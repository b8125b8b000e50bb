/**
 * The whole gateway, put together: configuration in, open doors out. Reads the key material, makes the control plane,
 * opens the doors of the floor, where a session is started for every visitor that the limits let in, and changes all of it
 * for another configuration while sessions run.
 */
import type { LeaseFacts, SessionExplanation, SessionFacts, WaitingFacts } from '../admin/managed.ts'
import type { Config, DiscoveryConfig } from '../config/config.ts'
import { upstreamsOf } from '../config/named-files.ts'
import type { Door } from '../doors/door.ts'
import type { Listener } from '../doors/listen.ts'
import type { Log } from '../observe/log.ts'
import { Telemetry } from '../observe/telemetry.ts'
import { loadClientMaterial } from '../pki/material.ts'
import { rightsClock } from '../platform/rights-clock.ts'
import type { Overlays } from '../preparing/preparing.ts'
import type { Misfit } from '../sharing/leases.ts'
import { MemoryLeases } from '../sharing/memory-leases.ts'
import { watchClock } from './clock-watch.ts'
import { createControl } from './control.ts'
import { Discoveries } from './discovery.ts'
import { Elder, type ElderChannel, FloorAndElder } from './elder.ts'
import type { Floor, Plane } from './floor.ts'
import type { Handed } from './handed.ts'
import { type HandedOver, Handover } from './handover.ts'
import { leaseFacts, releaseLease, waitingFacts } from './lease-admin.ts'
import { keepLeases } from './lease-keeper.ts'
import { Limits, limitsOf } from './limits.ts'
import type { Channel } from './link.ts'
import { LocalFloor } from './local-floor.ts'
import { watchMaterial } from './material-watch.ts'
import { createOverview, type Overview } from './overview.ts'
import { prepareDoors } from './prepared-door.ts'
import { PreparingKeeper } from './preparing-keeper.ts'
import { processCount } from './process-count.ts'
import { RateDesk } from './rate-desk.ts'
import { Seat } from './seat.ts'
import { beginAudit, endAudit } from './trail.ts'
import type { WorkerProgram } from './worker-floor.ts'

/** What a gateway is made with, beside its configuration. */
export interface GatewayOptions {
  /** What counts, and hears the log. */
  readonly telemetry?: Telemetry
  /** Without it all sessions run in this process, whatever the configuration says. */
  readonly workers?: WorkerProgram
  /** Sockets of doors that listen already. */
  readonly handed?: Handed | undefined
  /** Where the audit trail is, instead of the state folder. */
  readonly auditDir?: string | undefined
  /** The process whose gateway is taken over. */
  readonly elder?: ElderChannel | undefined
}

/** A running gateway. */
export interface Gateway extends Overview {
  readonly doors: readonly Door[]

  /**
   * Takes the configuration that `load` returns, all of it or, when it or this throws, nothing. Sessions whose rights are gone or less are ended;
   * the others do not notice. What `log`, `state`, `audit`, `admin` and `workers` say holds from the next start. Returns how many were ended.
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

  /** Who waits for an export, the oldest first. */
  waiting(): readonly WaitingFacts[]

  /** Ends the sessions of an export's holders, or of one, and waits until their leases are free; how many there were. */
  releaseLease(name: string, holder: string | undefined): Promise<number>

  /** What was made for sessions. */
  readonly overlays: Overlays

  /**
   * Lets nobody in any more, tells who is haggling so, and waits `limits.drain` at most (or `ms`) for sessions to end. Then what
   * is in flight is answered, all else with ESHUTDOWN, and they are ended.
   */
  drain(ms?: number): Promise<void>

  /** Ends every session now. */
  stop(): Promise<void>

  /** What the doors listen at, by place. */
  listeners(): ReadonlyMap<string, Listener>

  /** Lets another process take over what is not sessions; `taken` is called when it has. */
  handOver(channel: Channel, taken: () => Promise<void>): Handover
}

/**
 * Starts a gateway: all doors open, or none.
 * @throws MaterialError for a certificate or key that can not be used, DoorError for a door that can not be opened,
 * AuditError for a trail that can not be used
 */
export async function startGateway(config: Config, log: Log, options: GatewayOptions = {}): Promise<Gateway> {
  const { telemetry = new Telemetry(), workers, handed = new Map() } = options
  checkUpstreamMaterial(config, log)
  const auditDir = options.auditDir ?? config.state
  const limits = new Limits(limitsOf(config))
  const leases = await keepLeases(
    config,
    {
      extended: term => floor.extend(term),
      ended: (id, why) => floor.endTerm(id, why),
      lost: (conns, why) => floor.cut(conns, why),
      settle: conns => floor.settle(conns),
      release: conns => floor.retire(conns, 'lease released'),
    },
    log,
  )
  const seek = (each: DiscoveryConfig): Promise<void> =>
    seat.ask(
      () => discoveries.seek(each),
      link => link.ask('seek', each),
    )
  /** What upstreams list has changed: nothing to do while this gateway is not the one that serves. */
  let relist = async (): Promise<void> => {}
  const discoveries = new Discoveries(log, () => relist())
  const control = createControl(config, leases, seek)
  await discoveries.prepare(config)
  discoveries.follow(config)
  /** As it is written, and with what upstreams list. */
  let [current, inForce] = [config, config]
  const publish = (written: Config): readonly Misfit[] => {
    ;[current, inForce] = [written, discoveries.extend(written)]
    telemetry.retain(inForce.exports)
    return control.replace(inForce)
  }
  publish(config)
  let conn = 0
  let draining = false
  const preparing = new PreparingKeeper(config.state, log)
  const seat = new Seat({ control, limits, preparing })
  const { audit } = seat
  const desk = new RateDesk()
  const plane: Plane = {
    control: seat.control,
    limits: seat.limits,
    preparing: seat.preparing,
    audit,
    leases,
    log,
    telemetry,
    handed,
    seek,
    settle: conns =>
      seat.ask(
        () => floor.settle(conns),
        link => link.ask('settle', conns),
      ),
    flushTimes: (key, butConn) =>
      seat.ask(
        () => floor.flushTimes(key, butConn),
        link => link.ask('flushTimes', key, butConn),
      ),
    rates: {
      draw: (...of) =>
        seat.ask(
          () => desk.draw(...of),
          link => link.ask('draw', ...of),
        ),
    },
    sharesRates: options.elder !== undefined,
    config: () => inForce,
    number: () => seat.number() ?? ++conn,
  }
  const processes = processCount(config.workers)
  const isAlone = workers === undefined || processes === 1
  const own: Floor = isAlone ? new LocalFloor(plane) : await openWorkers(plane, processes, workers)
  const elder = options.elder === undefined ? undefined : new Elder(options.elder, plane)
  const floor = elder === undefined ? own : new FloorAndElder(own, elder)
  if (elder !== undefined) preparing.succeed(elder)
  const inTurn = turns()
  try {
    await own.begin()
    if (elder !== undefined) await leases.begun()
    await elder?.prepare(inForce)
    // As late as can be: from here on the process that is there already lets nobody decide.
    const estate = await elder?.yieldAll()
    seat.keep(await beginAudit(config, auditDir, log))
    await preparing.open(inForce)
    preparing.apply(inForce)
    if (estate !== undefined) {
      conn = estate.number + RESERVED_NUMBERS
      limits.restore(estate.places, estate.halfOpen, estate.charged)
      control.restore(estate.holdings)
    }
    await own.apply(inForce, () => {})
    relist = async () =>
      await inTurn(async () => {
        publish(current)
        await preparing.open(inForce)
        preparing.apply(inForce)
        await floor.follow(inForce)
      })
    const gone = new Set(await elder?.takeOver(inForce))
    retireMisfits(floor, control.replace(inForce), gone)
  } catch (error) {
    await own.stop()
    await preparing.close()
    await leases.close()
    await endAudit(audit)
    throw error
  }
  const unwatchMaterial = watchMaterial(() => current, log)
  const unwatchClock = watchClock(log, audit)
  const unwatch = (): void => {
    unwatchMaterial()
    unwatchClock()
  }
  log.info({ doors: floor.doors.map(({ kind, address }) => ({ kind, address })) }, 'gateway ready')

  const take = async (next: Config): Promise<number> => {
    checkUpstreamMaterial(next, log)
    let misfits: readonly Misfit[] = []
    await preparing.open(next)
    const { doors, ended: gone } = await floor.apply(discoveries.extend(next), () => {
      rightsClock.follow()
      discoveries.follow(next)
      misfits = publish(next)
      preparing.apply(inForce)
      limits.replace(limitsOf(next))
    })
    const sessionsEnded = retireMisfits(floor, misfits, new Set(gone)).size
    log.info({ ...doors, sessionsEnded }, 'reloaded')
    audit.note('reloaded', { ...doors, sessionsEnded })
    return sessionsEnded
  }
  const reload = async (load: () => Config): Promise<number> => {
    try {
      const next = load()
      await discoveries.prepare(next)
      return await inTurn(() => take(next))
    } catch (error) {
      audit.note('reload failed', { problem: error instanceof Error ? error.message : String(error) })
      throw error
    }
  }
  const end = async (): Promise<void> => {
    draining = true
    leases.dismiss()
    preparing.stop()
    discoveries.close()
    unwatch()
    await floor.stop()
    await preparing.close()
    await leases.close()
    if (seat.isOwn) await endAudit(audit)
  }
  let ended: Promise<void> | undefined
  const stop = (): Promise<void> => {
    ended ??= end()
    return ended
  }
  const drain = async (ms = current.limits.drainMs): Promise<void> => {
    draining = true
    leases.dismiss()
    preparing.dismiss()
    await floor.close()
    let timer: NodeJS.Timeout | undefined
    const late = new Promise<void>(resolve => {
      timer = setTimeout(resolve, ms)
    })
    await Promise.race([floor.ended(), late])
    clearTimeout(timer)
    if (ended === undefined) await floor.shutDown()
    await stop()
  }
  const handOver: Gateway['handOver'] = (channel, taken) => {
    const handed: HandedOver = {
      seat,
      floor,
      telemetry,
      preparing,
      number: () => conn,
      closeTrail: async () => await audit.close(),
      openTrail: async () => seat.keep(await beginAudit(config, auditDir, log)),
      check: next => {
        createControl(next, new MemoryLeases())
        prepareDoors(next.doors, next.limits.negotiationMs, log)
      },
      apply: async next =>
        (
          await floor.apply(next, () => {
            rightsClock.follow()
            inForce = next
            control.replace(next)
            preparing.apply(next)
            current = next
          })
        ).ended,
      follow: async next => {
        inForce = next
        control.replace(next)
        preparing.apply(next)
        await floor.follow(next)
      },
      retire: () => {
        relist = async () => {}
        leases.dismiss()
        discoveries.close()
        unwatch()
      },
      stop,
    }
    return new Handover(handed, channel, taken)
  }
  const leaseList = (): readonly LeaseFacts[] => leases.list().map(leaseFacts)
  const overview = createOverview({
    config: () => current,
    published: () => inForce.exports,
    sessions: () => floor.sessions(),
    leases: leaseList,
    connections: () => limits.count,
    audit,
    doors: () => floor.doors,
    isDraining: () => draining,
    lastReload: () => telemetry.lastReload,
    gather: () => floor.gather(),
    traffic: () => floor.traffic(),
    regions: name => floor.regions(name),
    workers: isAlone ? 0 : processes,
  })
  return {
    get doors() {
      return floor.doors
    },
    ...overview,
    sessions: () => floor.sessions(),
    explain: id => floor.explain(id),
    kick: id => floor.kick(id),
    leases: leaseList,
    overlays: preparing,
    waiting: () => leases.waiting().map(waitingFacts),
    releaseLease: (name, holder) => releaseLease(leases, name, holder, conns => floor.retire(conns, 'lease released')),
    reload,
    drain,
    stop,
    listeners: () => floor.listeners(),
    handOver,
  }
}

/** For connections of the process before this one that were on their way in when it stopped counting. */
const RESERVED_NUMBERS = 1000

/** Ends sessions that another mode has no place for; all that were ended, with those that are `gone` already. */
function retireMisfits(floor: Floor, misfits: readonly Misfit[], gone: ReadonlySet<number>): ReadonlySet<number> {
  const left = misfits.filter(({ session }) => !gone.has(session))
  for (const { session, by } of left)
    void floor.retire([session], `no longer allowed: sharing ${by.mode}, and ${by.who} was there before`)
  return new Set([...gone, ...left.map(({ session }) => session)])
}

async function openWorkers(plane: Plane, count: number, program: WorkerProgram): Promise<Floor> {
  const { WorkerFloor } = await import('./worker-floor.ts')
  return new WorkerFloor(plane, count, program)
}

/** Runs one thing after another. */
function turns(): <T>(run: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve()
  return run => {
    const next = last.then(run)
    last = next.catch(() => {})
    return next
  }
}

/** Loaded again at each dial; here so that what can not work is said before a door opens. */
function checkUpstreamMaterial(config: Config, log: Log): void {
  for (const upstream of upstreamsOf(config)) {
    if (upstream.kind === 'file' || !upstream.tls) continue
    for (const warning of loadClientMaterial(upstream).warnings) log.warn({ warning }, 'key material')
  }
}
