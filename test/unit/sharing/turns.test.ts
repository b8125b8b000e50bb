import { expect, it } from 'vitest'
import { Turns } from '../../../src/sharing/turns.ts'

it('work for one name is done one after the other, also after a failure', async () => {
  const turns = new Turns(8)
  const told: string[] = []
  const first = turns.run('a', async () => {
    await null
    told.push('first')
    throw new Error('no')
  })
  const second = turns.run('a', async () => void told.push('second'))
  await expect(first).rejects.toThrow('no')
  await second
  expect(told).toEqual(['first', 'second'])
})

it('no more names than that have their turn at once, and idle waits for all', async () => {
  const turns = new Turns(2)
  let running = 0
  let most = 0
  const work = async (): Promise<void> => {
    most = Math.max(most, ++running)
    await new Promise(resolve => setImmediate(resolve))
    running--
  }
  for (let index = 0; index < 10; index++) void turns.run(`name ${index}`, work)
  await turns.idle()
  expect([running, most]).toEqual([0, 2])
})
