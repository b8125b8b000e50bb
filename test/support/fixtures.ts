/**
 * `test` with what interop tests need, each started on demand and stopped after the test:
 * `test('…', async ({ dir, nbdkit, gateway, pki }) => { … })`.
 */

import { test as base } from 'vitest'
import { type GatewayOptions, type RunningGateway, startGateway } from './gateway.ts'
import { makePki } from './pki.ts'
import { type NbdServer, type NbdServerOptions, startNbdkit, startNbdServer, startQemuNbd } from './servers.ts'
import { makeTempFolder, removeTempFolder } from './temp.ts'

/** How long a gateway may drain at the end of a test before it is killed; a test that cares calls `stop()` itself. */
const CLEANUP_DRAIN_MS = 2_000

/** What was started in a test, to be stopped in reverse order; one that does not stop does not keep the others running. */
function stack(): { add(stop: () => Promise<unknown>): void; next(prefix: string): string; stopAll(): Promise<void> } {
  const stops: (() => Promise<unknown>)[] = []
  return {
    add: stop => void stops.push(stop),
    next: prefix => (stops.length === 0 ? prefix : `${prefix}-${stops.length + 1}`),
    stopAll: async () => {
      const failures: unknown[] = []
      for (const stop of stops.reverse()) await stop().catch((error: unknown) => failures.push(error))
      if (failures.length > 0) throw new AggregateError(failures, 'not everything could be stopped')
    },
  }
}

/** `test` of vitest with our fixtures. */
export const test = base
  /** An empty folder; its path is short enough for Unix sockets. */
  .extend('dir', async ({}, { onCleanup }) => {
    const dir = await makeTempFolder()
    onCleanup(() => removeTempFolder(dir))
    return dir
  })
  /** The certificates of `pki.ts`, made once a file: do not change them. */
  .extend('pki', { scope: 'file' }, async ({}, { onCleanup }) => {
    const pki = await makePki()
    onCleanup(() => removeTempFolder(pki.dir))
    return pki
  })
  /** Starts the real nbd-server. */
  .extend('nbdServer', async ({ dir }, { onCleanup }) => {
    const started = stack()
    onCleanup(started.stopAll)
    return async (options: NbdServerOptions): Promise<NbdServer> => {
      const server = await startNbdServer(dir, started.next('nbd-server'), options)
      started.add(server.stop)
      return server
    }
  })
  /** Starts nbdkit with these arguments; its Unix socket. */
  .extend('nbdkit', async ({ dir }, { onCleanup }) => {
    const started = stack()
    onCleanup(started.stopAll)
    return async (...args: string[]): Promise<string> => {
      const { socket, process } = await startNbdkit(dir, started.next('nbdkit'), args)
      started.add(process.stop)
      return socket
    }
  })
  /** Starts qemu-nbd for an image; its Unix socket. */
  .extend('qemuNbd', async ({ dir }, { onCleanup }) => {
    const started = stack()
    onCleanup(started.stopAll)
    return async (image: string, ...args: string[]): Promise<string> => {
      const { socket, process } = await startQemuNbd(dir, started.next('qemu-nbd'), image, args)
      started.add(process.stop)
      return socket
    }
  })
  /** Starts the gateway with this configuration; its log is printed if the test fails. */
  .extend('gateway', async ({ dir, onTestFailed }, { onCleanup }) => {
    const started = stack()
    const running: RunningGateway[] = []
    onCleanup(started.stopAll)
    onTestFailed(() => {
      for (const gateway of running) console.error(`log of ${gateway.configFile}:\n${gateway.stderr()}`)
    })
    return async (yaml: string | ((dir: string) => string), options: GatewayOptions = {}): Promise<RunningGateway> => {
      const text = typeof yaml === 'string' ? yaml : yaml(dir)
      const gateway = await startGateway(dir, started.next('nbdgate'), text, options)
      running.push(gateway)
      started.add(() => gateway.stop(CLEANUP_DRAIN_MS))
      return gateway
    }
  })
