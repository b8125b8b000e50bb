import { runWorker } from '../gateway/worker.ts'

/** What `serve` starts for its sessions, which ends with it; by hand it is a usage error. */
export async function run(_argv: readonly string[]): Promise<number> {
  if (process.send === undefined) {
    process.stderr.write('nbdgate: workers are started by `nbdgate serve`\n')
    return 2
  }
  await runWorker()
  return 0
}
