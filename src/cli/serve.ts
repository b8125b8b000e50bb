import { Command } from 'commander'
import type { Managed } from '../admin/managed.ts'
import type { Admin, AdminSocket } from '../admin/server.ts'
import type { Config } from '../config/config.ts'
import type { Listener } from '../doors/listen.ts'
import { startGateway } from '../gateway/gateway.ts'
import { AdminPlace, type Handed, listenerAt, placesOf } from '../gateway/handed.ts'
import { type Log, openLog } from '../observe/log.ts'
import { Telemetry } from '../observe/telemetry.ts'
import { holdYoungGeneration } from '../platform/young-generation.ts'
import { environmentOf, takeActivation } from './activation.ts'
import { placeDescriptors } from './descriptors.ts'
import { EarlySignals, Ending } from './ending.ts'
import { closeUnused, handedOf, type PlacedListener, takeInheritance } from './inheritance.ts'
import { loadAll, sharedNames } from './load.ts'
import { Notifier, SERVING } from './notifier.ts'
import { Reloading } from './reloading.ts'
import { Running } from './running.ts'
import { Upgrade } from './upgrade.ts'

/** What this process runs, and its workers too. */
const ENTRY = process.argv[1] ?? ''

/** Opening sessions makes little garbage and relaying next to none: more would only be held. Workers are started with half of it. */
const YOUNG_BYTES = 16 * 1024 * 1024

/** `nbdgate serve`. */
export function serveCommand(): Command {
  return new Command('serve')
    .description('run the gateway; SIGTERM drains and exits, a second SIGTERM exits now')
    .requiredOption('-c, --config <file>', 'configuration (YAML)')
    .action(async (options: { config: string }) => await serve(options.config))
}

async function serve(file: string): Promise<void> {
  holdYoungGeneration(YOUNG_BYTES)
  const activation = takeActivation(process.env, process.pid)
  const inheritance = takeInheritance(process.env)
  // Its default action would end every session.
  let upgrade: Upgrade | undefined
  let isUpgradeAsked = false
  process.on('SIGUSR2', () => {
    isUpgradeAsked = upgrade === undefined
    void upgrade?.begin()
  })
  const early = new EarlySignals({ areKept: inheritance !== undefined })
  const { config } = loadAll(file)
  const handed = inheritance === undefined ? placeDescriptors(activation.descriptors, config) : handedOf(inheritance)
  const telemetry = new Telemetry()
  const out = openLog(config.log)
  const log = telemetry.hear(out)
  for (const warning of sharedNames(config)) log.warn({ warning }, 'configuration')
  const notifier = new Notifier(activation, log)
  // What has to be there when the log says `gateway ready` comes first.
  const reloading = new Reloading(config, log, { notifier })
  process.on('SIGHUP', () => reloading.ask('SIGHUP'))
  const running = new Running(reloading, telemetry)
  const admins = await openAdmins(config, running, { log, handed })
  try {
    const workers = { entry: ENTRY, pass: out.pass }
    const gateway = await startGateway(config, log, { telemetry, handed, workers, elder: inheritance?.elder })
    if (inheritance !== undefined) closeUnused(inheritance, placesIn(config))
    const ending = new Ending(gateway, log, notifier)
    for (const signal of early.end()) ending.drain(signal)
    upgrade = new Upgrade(gateway, {
      file: config.file,
      log,
      environment: environmentOf(activation),
      listeners: () => admins.flatMap(({ place, admin }) => placed(place, admin.listener())),
      taken: pid => {
        notifier.handOver(pid)
        reloading.close()
        for (const { admin } of admins) admin.release()
      },
    })
    reloading.begin(gateway)
    running.begin(gateway, ending)
    notifier.ready(SERVING)
    if (isUpgradeAsked) void upgrade.begin()
    await Promise.race([ending.done, upgrade.done])
    await gateway.stop()
  } finally {
    notifier.close()
    reloading.close()
    for (const { admin } of admins) admin.close()
    // It would keep this process alive, and the other one waiting.
    if (inheritance !== undefined && process.connected) process.disconnect()
  }
}

function placed(place: string, listener: Listener | undefined): readonly PlacedListener[] {
  return listener === undefined ? [] : [{ place, ...listener }]
}

/** Where the configuration has something that listens. */
function placesIn({ doors, admin }: Config): ReadonlySet<string> {
  const socket = admin?.socket === undefined ? [] : [AdminPlace.SOCKET]
  const http = admin?.http === undefined ? [] : [AdminPlace.HTTP]
  return new Set([...placesOf(doors), ...socket, ...http])
}

interface PlacedAdmin {
  readonly place: string
  readonly admin: Admin
}

/** Opens what the configuration says, all or nothing. */
async function openAdmins(
  { admin }: Config,
  managed: Managed,
  { log, handed }: { readonly log: Log; readonly handed: Handed },
): Promise<readonly PlacedAdmin[]> {
  if (admin === undefined) return []
  // Only now: the HTTP server is not loaded for those who do not want it.
  const { openAdmin, openAdminHttp } = await import('../admin/server.ts')
  const socketOf = (path: string): AdminSocket => ({ path, given: listenerAt(handed, AdminPlace.SOCKET) })
  const socket =
    admin.socket === undefined
      ? []
      : [{ place: AdminPlace.SOCKET, admin: await openAdmin(socketOf(admin.socket), managed) }]
  if (admin.http === undefined) return socket
  try {
    const http = await openAdminHttp({ ...admin.http, given: listenerAt(handed, AdminPlace.HTTP) }, managed)
    log.info({ address: http.address }, 'admin http ready')
    return [...socket, { place: AdminPlace.HTTP, admin: http }]
  } catch (error) {
    for (const each of socket) each.admin.close()
    throw error
  }
}
