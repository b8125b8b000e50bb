import { Command } from 'commander'
import type { LeaseFacts, Managed, ReloadResult, SessionExplanation, SessionFacts } from '../admin/managed.ts'
import type { Admin } from '../admin/server.ts'
import { type Gateway, startGateway } from '../gateway/gateway.ts'
import { openLog } from '../observe/log.ts'
import { Ending } from './ending.ts'
import { loadAll, sharedNames } from './load.ts'
import { Reloading } from './reloading.ts'

/** What this process runs, and its workers too. */
const ENTRY = process.argv[1] ?? ''

/** `nbdgate serve`. */
export function serveCommand(): Command {
  return new Command('serve')
    .description('run the gateway; SIGTERM drains and exits, a second SIGTERM exits now')
    .requiredOption('-c, --config <file>', 'configuration (YAML)')
    .action(async (options: { config: string }) => {
      const { config } = loadAll(options.config)
      const log = openLog(config.log)
      for (const warning of sharedNames(config)) log.warn({ warning }, 'configuration')
      // What has to be there when the log says `gateway ready` comes first.
      const reloading = new Reloading(config, log)
      process.on('SIGHUP', () => reloading.ask('SIGHUP'))
      const running = new Running(reloading)
      const admin = await openAdminAt(config.admin?.socket, running)
      try {
        const gateway = await startGateway(config, log, { entry: ENTRY, pass: log.pass })
        const ending = new Ending(gateway, log)
        reloading.begin(gateway)
        running.begin(gateway, ending)
        await ending.done
      } finally {
        reloading.close()
        admin?.close()
      }
    })
}

/** What the admin socket is about; the socket is there before the doors are. */
class Running implements Managed {
  readonly #reloading: Reloading
  #gateway: Gateway | undefined
  #ending: Ending | undefined

  constructor(reloading: Reloading) {
    this.#reloading = reloading
  }

  begin(gateway: Gateway, ending: Ending): void {
    this.#gateway = gateway
    this.#ending = ending
  }

  async sessions(): Promise<readonly SessionFacts[]> {
    return (await this.#gateway?.sessions()) ?? []
  }

  async explain(id: number): Promise<SessionExplanation | undefined> {
    return await this.#gateway?.explain(id)
  }

  async kick(id: number): Promise<boolean> {
    return (await this.#gateway?.kick(id)) ?? false
  }

  leases(): readonly LeaseFacts[] {
    return this.#gateway?.leases() ?? []
  }

  async releaseLease(name: string, holder: string | undefined): Promise<number> {
    return (await this.#gateway?.releaseLease(name, holder)) ?? 0
  }

  reload(): Promise<ReloadResult> {
    return this.#reloading.request('the admin socket')
  }

  drain(): void {
    this.#ending?.drain('the admin socket')
  }
}

async function openAdminAt(path: string | undefined, managed: Managed): Promise<Admin | undefined> {
  if (path === undefined) return undefined
  // Only now: the HTTP server is not loaded for those who do not want it.
  const { openAdmin } = await import('../admin/server.ts')
  return await openAdmin(path, managed)
}
