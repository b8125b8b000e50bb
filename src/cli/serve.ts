import { Command } from 'commander'
import { type Gateway, startGateway } from '../gateway/gateway.ts'
import { type Log, openLog } from '../observe/log.ts'
import { loadAll, sharedNames } from './load.ts'
import { Reloading } from './reloading.ts'

/** How long sessions have to end by themselves after SIGTERM. */
const DRAIN_MS = 30_000

/** `nbdgate serve`. */
export function serveCommand(): Command {
  return new Command('serve')
    .description('run the gateway; SIGTERM drains and exits, a second SIGTERM exits now')
    .requiredOption('-c, --config <file>', 'configuration (YAML)')
    .action(async (options: { config: string }) => {
      const { config } = loadAll(options.config)
      const log = openLog(config.log)
      for (const warning of sharedNames(config)) log.warn({ warning }, 'configuration')
      const gateway = await startGateway(config, log)
      const reloading = new Reloading(gateway, config, log)
      await untilSignalled(gateway, log, () => reloading.request('SIGHUP'))
      reloading.close()
    })
}

/** Resolves when the gateway has been told to end, and has. */
export async function untilSignalled(gateway: Gateway, log: Log, reload: () => void): Promise<void> {
  let signals = 0
  await new Promise<void>((resolve, reject) => {
    const end = (signal: NodeJS.Signals): void => {
      signals++
      log.info({ signal }, signals === 1 ? 'draining' : 'stopping')
      const ended = signals === 1 ? gateway.drain(DRAIN_MS) : gateway.stop()
      ended.then(resolve, reject)
    }
    process.on('SIGTERM', end)
    process.on('SIGINT', end)
    process.on('SIGHUP', reload)
  })
}
