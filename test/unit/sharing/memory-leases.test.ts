import { expect, it } from 'vitest'
import { busyMessage } from '../../../src/sharing/leases.ts'
import { MemoryLeases } from '../../../src/sharing/memory-leases.ts'
import { claim, leasesSuite } from './leases-suite.ts'

leasesSuite('the memory of one gateway', () => new MemoryLeases())

const AT_ONCE = { ms: 0, signal: new AbortController().signal }

it('a message names who, from where and since when, and can be printed', async () => {
  const leases = new MemoryLeases(() => Date.UTC(2026, 0, 2))
  await leases.acquire(claim({ who: 'cert:cn=al\u001bice', peer: '192.0.2.7:50312' }), AT_ONCE)
  const [lease] = leases.list()
  if (lease === undefined) throw new Error('no lease')
  expect(busyMessage(lease)).toBe(
    'this export is in use for writing by cert:cn=al\\u{1b}ice from 192.0.2.7:50312 since 2026-01-02T00:00:00.000Z',
  )
})
