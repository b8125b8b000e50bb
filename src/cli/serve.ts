import { Command } from 'commander'
import type { Managed } from '../admin/managed.ts'
import type { Admin, AdminSocket } from '../admin/server.ts'
import type { Config } from '../config/config.ts'
import { startGateway } from '../gateway/gateway.ts'
import { AdminPlace, type Handed, listenerAt } from '../gateway/handed.ts'
import { type Log, openLog } from '../observe/log.ts'
import { Telemetry } from '../observe/telemetry.ts'
import { takeActivation } from './activation.ts'
import { placeDescriptors } from './descriptors.ts'
import { Ending } from './ending.ts'
import { loadAll, sharedNames } from './load.ts'
import { Notifier, SERVING } from './notifier.ts'
import { Reloading } from './reloading.ts'
import { Running } from './running.ts'

/** What this process runs, and its workers too. */
const ENTRY = process.argv[1] ?? ''

/** `nbdgate serve`. */
export function serveCommand(): Command {
  return new Command('serve')
    .description('run the gateway; SIGTERM drains and exits, a second SIGTERM exits now')
    .requiredOption('-c, --config <file>', 'configuration (YAML)')
    .action(async (options: { config: string }) => await serve(options.config))
}

async function serve(file: string): Promise<void> {
  const activation = takeActivation(process.env, process.pid)
  const { config } = loadAll(file)
  const handed = placeDescriptors(activation.descriptors, config)
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
    const gateway = await startGateway(config, log, { telemetry, handed, workers: { entry: ENTRY, pass: out.pass } })
    const ending = new Ending(gateway, log, notifier)
    reloading.begin(gateway)
    running.begin(gateway, ending)
    notifier.ready(SERVING)
    await ending.done
  } finally {
    notifier.close()
    reloading.close()
    for (const admin of admins) admin.close()
  }
}

/** Opens what the configuration says, all or nothing. */
async function openAdmins(
  { admin }: Config,
  managed: Managed,
  { log, handed }: { readonly log: Log; readonly handed: Handed },
): Promise<readonly Admin[]> {
  if (admin === undefined) return []
  // Only now: the HTTP server is not loaded for those who do not want it.
  const { openAdmin, openAdminHttp } = await import('../admin/server.ts')
  const socketOf = (path: string): AdminSocket => ({ path, given: listenerAt(handed, AdminPlace.SOCKET) })
  const socket = admin.socket === undefined ? [] : [await openAdmin(socketOf(admin.socket), managed)]
  if (admin.http === undefined) return socket
  try {
    const http = await openAdminHttp({ ...admin.http, given: listenerAt(handed, AdminPlace.HTTP) }, managed)
    log.info({ address: http.address }, 'admin http ready')
    return [...socket, http]
  } catch (error) {
    for (const each of socket) each.close()
    throw error
  }
}
