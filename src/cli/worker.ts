import { Command } from 'commander'
import { runWorker } from '../gateway/worker.ts'
import { UsageError } from './errors.ts'

/** `nbdgate worker`, which only the gateway starts. */
export function workerCommand(): Command {
  return new Command('worker').description('a process of the gateway that sessions run in').action(async () => {
    if (process.send === undefined) throw new UsageError('a worker is started by the gateway')
    await runWorker()
  })
}
