// Leases in etcd, without gateways around them: what every keeper of leases promises, and what only several gateways can do.
import { afterAll, afterEach, beforeAll } from 'vitest'
import { type EtcdCluster, startEtcd } from '../support/etcd.ts'
import { makeTempFolder, removeTempFolder } from '../support/temp.ts'
import { leasesSuite } from '../unit/sharing/leases-suite.ts'
import { type KeepOptions, type Kept, keep } from './etcd-ground.ts'

let dir: string
let etcd: EtcdCluster
let prefixes = 0
const kept: Kept[] = []

const gateway = async (options: Partial<KeepOptions> = {}): Promise<Kept> => {
  const made = await keep({ urls: etcd.urls, prefix: `/test-${prefixes}/`, ...options })
  kept.push(made)
  return made
}

beforeAll(async () => {
  dir = await makeTempFolder()
  etcd = await startEtcd(dir, 'etcd')
})
afterAll(async () => {
  await etcd.stop()
  await removeTempFolder(dir)
})
afterEach(async () => {
  prefixes++
  await Promise.all(kept.splice(0).map(({ leases }) => leases.close()))
})

leasesSuite('etcd', async () => (await gateway()).leases)
