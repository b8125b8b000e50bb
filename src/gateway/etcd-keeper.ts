import type { EtcdConfig } from '../config/config.ts'
import type { Log } from '../observe/log.ts'
import { EtcdClient } from '../sharing/etcd-client.ts'
import { EtcdLeases } from '../sharing/etcd-leases.ts'
import { loadEtcdMaterial } from '../sharing/etcd-material.ts'
import { Keys } from '../sharing/etcd-records.ts'
import type { LeaseListener, Leases } from '../sharing/leases.ts'

/** How long one member of etcd may take: a part of the TTL, so that others can be asked before that is over. */
const ATTEMPT_PART = 3
const MAX_ATTEMPT_MS = 2000

/** Leases that an etcd cluster keeps. @throws MaterialError for a file that can not be used */
export function keepInEtcd(etcd: EtcdConfig, listener: LeaseListener, log: Log): Leases {
  const material = loadEtcdMaterial(etcd)
  for (const warning of material.warnings) log.warn({ warning }, 'key material')
  const { endpoints, ttlMs, name, prefix } = etcd
  const client = new EtcdClient({
    endpoints,
    material,
    attemptMs: Math.min(Math.ceil(ttlMs / ATTEMPT_PART), MAX_ATTEMPT_MS),
  })
  return new EtcdLeases({ client, keys: new Keys(prefix), record: { version: 1, name, ttlMs }, log, listener })
}
