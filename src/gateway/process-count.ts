import { availableParallelism } from 'node:os'

/** How many processes `workers` means: one for each core that this one may use. */
export function processCount(workers: number | 'auto'): number {
  return workers === 'auto' ? availableParallelism() : workers
}
