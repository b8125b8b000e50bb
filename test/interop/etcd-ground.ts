/** Leases in a real etcd, without a gateway around them. */
import { EtcdClient } from '../../src/sharing/etcd-client.ts'
import { EtcdLeases } from '../../src/sharing/etcd-leases.ts'
import { Keys } from '../../src/sharing/etcd-records.ts'
import type { Term } from '../../src/sharing/fence.ts'
import type { LeaseListener } from '../../src/sharing/leases.ts'
import { waitFor } from '../support/wait.ts'

/** What was said of the leases of one gateway. */
export interface Heard {
  readonly ended: string[]
  readonly lost: number[]
  readonly settled: number[]
  readonly released: number[]
  term: Term | undefined
}

/** One gateway's leases, and what it hears of them. */
export interface Kept {
  readonly leases: EtcdLeases
  readonly heard: Heard
  readonly log: string[]
}

export interface KeepOptions {
  readonly urls: readonly string[]
  readonly prefix: string
  readonly name?: string
  readonly ttlMs?: number
  /** What the gateway does when it is asked to end or to settle sessions. */
  readonly listener?: Partial<LeaseListener>
}

/** Leases of a gateway that is known to etcd. */
export async function keep({ urls, prefix, name = 'gw', ttlMs = 2000, listener = {} }: KeepOptions): Promise<Kept> {
  const heard: Heard = { ended: [], lost: [], settled: [], released: [], term: undefined }
  const log: string[] = []
  const write = (_facts: object, message: string): void => void log.push(message)
  const leases = new EtcdLeases({
    client: new EtcdClient({
      endpoints: urls,
      material: { warnings: [] },
      attemptMs: Math.min(Math.ceil(ttlMs / 3), 2000),
    }),
    keys: new Keys(prefix),
    record: { version: 1, name, ttlMs },
    log: { info: write, warn: write, error: write },
    listener: {
      extended: term => {
        heard.term = term
      },
      ended: id => heard.ended.push(id),
      lost: sessions => heard.lost.push(...sessions),
      settle: async sessions => void heard.settled.push(...sessions),
      release: async sessions => void heard.released.push(...sessions),
      ...listener,
    },
  })
  await waitFor('a life in etcd', () => log.includes('leases are kept in etcd'))
  return { leases, heard, log }
}
