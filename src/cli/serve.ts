import { Command } from 'commander'
import type { Managed } from '../admin/managed.ts'
import type { Admin } from '../admin/server.ts'
import type { Config } from '../config/config.ts'
import { startGateway } from '../gateway/gateway.ts'
import { type Log, openLog } from '../observe/log.ts'
import { Telemetry } from '../observe/telemetry.ts'
import { Ending } from './ending.ts'
import { loadAll, sharedNames } from './load.ts'
import { Reloading } from './reloading.ts'
import { Running } from './running.ts'

/** What this process runs, and its workers too. */
const ENTRY = process.argv[1] ?? ''

/** `nbdgate serve`. */
export function serveCommand(): Command {
  return new Command('serve')
    .description('run the gateway; SIGTERM drains and exits, a second SIGTERM exits now')
    .requiredOption('-c, --config <file>', 'configuration (YAML)')
    .action(async (options: { config: string }) => {
      const { config } = loadAll(options.config)
      const telemetry = new Telemetry()
      const out = openLog(config.log)
      const log = telemetry.hear(out)
      for (const warning of sharedNames(config)) log.warn({ warning }, 'configuration')
      // What has to be there when the log says `gateway ready` comes first.
      const reloading = new Reloading(config, log)
      process.on('SIGHUP', () => reloading.ask('SIGHUP'))
      const running = new Running(reloading, telemetry)
      const admins = await openAdmins(config, running, log)
      try {
        const gateway = await startGateway(config, log, { telemetry, workers: { entry: ENTRY, pass: out.pass } })
        const ending = new Ending(gateway, log)
        reloading.begin(gateway)
        running.begin(gateway, ending)
        await ending.done
      } finally {
        reloading.close()
        for (const admin of admins) admin.close()
      }
    })
}

/** Opens what the configuration says, all or nothing. */
async function openAdmins({ admin }: Config, managed: Managed, log: Log): Promise<readonly Admin[]> {
  if (admin === undefined) return []
  // Only now: the HTTP server is not loaded for those who do not want it.
  const { openAdmin, openAdminHttp } = await import('../admin/server.ts')
  const socket = admin.socket === undefined ? [] : [await openAdmin(admin.socket, managed)]
  if (admin.http === undefined) return socket
  try {
    const http = await openAdminHttp(admin.http, managed)
    log.info({ address: http.address }, 'admin http ready')
    return [...socket, http]
  } catch (error) {
    for (const each of socket) each.close()
    throw error
  }
}
