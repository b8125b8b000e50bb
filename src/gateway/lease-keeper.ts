import type { Config } from '../config/config.ts'
import type { Log } from '../observe/log.ts'
import type { LeaseListener, Leases } from '../sharing/leases.ts'
import { MemoryLeases } from '../sharing/memory-leases.ts'

/** Who keeps the leases, as the configuration says. Rejects with MaterialError for a file that can not be used. */
export async function keepLeases({ leases: { etcd } }: Config, listener: LeaseListener, log: Log): Promise<Leases> {
  if (etcd === undefined) return new MemoryLeases()
  // Only now: Node's HTTP is not loaded for those who do not want it.
  const { keepInEtcd } = await import('./etcd-keeper.ts')
  return keepInEtcd(etcd, listener, log)
}
