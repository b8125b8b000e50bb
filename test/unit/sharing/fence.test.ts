import { expect, it, vi } from 'vitest'
import { bootMs } from '../../../src/platform/libc.ts'
import { Fence, Fences } from '../../../src/sharing/fence.ts'

const LONG_MS = 60_000

it('a fence is open until its moment, and then calls once who wants to know', async () => {
  const fence = new Fence(bootMs() + 300)
  const whys: string[] = []
  fence.onPassed(why => whys.push(why))
  expect(fence.isOpen()).toBe(true)
  await vi.waitFor(() => expect(whys).toEqual(['leases lost: they have run out']))
  expect(fence.isOpen()).toBe(false)
  fence.onPassed(why => whys.push(`late: ${why}`))
  fence.end('again')
  expect(whys).toEqual(['leases lost: they have run out', 'late: leases lost: they have run out'])
})

it('a fence that is asked after its moment passes without its timer', () => {
  const fence = new Fence(bootMs() - 1)
  const whys: string[] = []
  fence.onPassed(why => whys.push(why))
  expect(fence.isOpen()).toBe(false)
  expect(whys).toHaveLength(1)
})

it('a fence that has passed does not come back, whatever arrives late', () => {
  const fence = new Fence(bootMs() - 1)
  fence.extend(bootMs() + LONG_MS)
  expect(fence.isOpen()).toBe(false)
})

it('a fence is extended, and never shortened', () => {
  const fence = new Fence(bootMs() + LONG_MS)
  fence.extend(bootMs() - 1)
  expect(fence.isOpen()).toBe(true)
  fence.end('over')
  expect(fence.isOpen()).toBe(false)
})

it('who has taken its wish back is not called', () => {
  const fence = new Fence(bootMs() + LONG_MS)
  const whys: string[] = []
  fence.onPassed(why => whys.push(why))()
  fence.end('over')
  expect(whys).toEqual([])
})

it('fences go by term: an end or an extension of one leaves others alone', () => {
  const fences = new Fences()
  const untilMs = bootMs() + LONG_MS
  const one = fences.of({ id: 'one', untilMs })
  const two = fences.of({ id: 'two', untilMs })
  expect(fences.of({ id: 'one', untilMs: 0 })).toBe(one)
  fences.end('one', 'over')
  fences.extend({ id: 'one', untilMs: untilMs * 2 })
  fences.extend({ id: 'unknown', untilMs })
  expect([one.isOpen(), two.isOpen()]).toEqual([false, true])
  expect(fences.of({ id: 'one', untilMs }).isOpen()).toBe(false)
})
