import { expect, it } from 'vitest'
import { Pending } from '../../../src/relay/pending.ts'
import { Settlings } from '../../../src/relay/settling.ts'
import { READ, request, WRITE } from './messages.ts'

const MIB = 1024 * 1024

function adds(pending: Pending, type: number): number {
  const head = request({ type, length: 512, payload: '' })
  pending.add(head, 8, 16, type, 512, 0)
  return pending.find(head, 8)
}

it('a client that is never quiet is settled when more has come than can have waited', async () => {
  const pending = new Pending()
  const settlings = new Settlings({ pending, isQuiet: () => true })
  const old = adds(pending, WRITE)
  let isSettled = false
  const settled = settlings.add().then(() => {
    isSettled = true
  })
  // Its next write goes out before the one before is done, again and again.
  adds(pending, WRITE)
  settlings.count(8 * MIB)
  settlings.look()
  pending.remove(old)
  settlings.look()
  await Promise.resolve()
  expect(isSettled).toBe(false)
  settlings.count(1)
  settlings.look()
  await settled
})

it('the old writes are waited for, however much has come', async () => {
  const pending = new Pending()
  const settlings = new Settlings({ pending, isQuiet: () => true })
  const old = adds(pending, WRITE)
  let isSettled = false
  const settled = settlings.add().then(() => {
    isSettled = true
  })
  settlings.count(9 * MIB)
  settlings.look()
  await Promise.resolve()
  expect(isSettled).toBe(false)
  pending.remove(old)
  settlings.look()
  await settled
})

it('reads are not waited for', async () => {
  const pending = new Pending()
  adds(pending, READ)
  await new Settlings({ pending, isQuiet: () => true }).add()
})
