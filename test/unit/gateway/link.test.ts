import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { type Entry, Link, LinkClosedError } from '../../../src/gateway/link.ts'
import { AuditError } from '../../../src/observe/errors.ts'

interface Served {
  add(a: number, b: number): number
  fail(code: string): void
  never(): Promise<void>
  take(text: string, handle?: unknown): void
}

/** Two ends of a channel that clones, and how many messages went from the first to the second. */
function linked() {
  const taken: unknown[] = []
  const served: Served = {
    add: (a, b) => a + b,
    fail: code => {
      if (code === 'WRITE') throw new AuditError('WRITE', 'the disk is full')
      throw new TypeError('no')
    },
    never: () => new Promise(() => {}),
    take: (...args) => void taken.push(args),
  }
  let messages = 0
  const near: Link<Served> = new Link<Served>(
    {
      send: (message, handle) => {
        messages++
        far.receive(structuredClone(message), handle)
      },
    },
    {},
  )
  const far: Link<object> = new Link<object>(
    { send: message => near.receive(structuredClone(message) as readonly Entry[]) },
    served,
  )
  return { near, taken, messages: () => messages }
}

describe('a link', () => {
  it('brings the answer of what was asked, or its error', async () => {
    const { near } = linked()
    await expect(near.ask('add', 2, 3)).resolves.toBe(5)
    await expect(near.ask('fail', 'WRITE')).rejects.toThrow(new AuditError('WRITE', 'the disk is full'))
    await expect(near.ask('fail', 'WRITE')).rejects.toMatchObject({ name: 'AuditError', code: 'WRITE' })
    await expect(near.ask('fail', '')).rejects.toMatchObject({ name: 'TypeError', message: 'no' })
  })

  it('sends what was called in one turn as one message, in its order', async () => {
    const { near, taken, messages } = linked()
    near.tell('take', 'a')
    const sum = near.ask('add', 1, 1)
    near.tell('take', 'b')
    expect(taken).toEqual([])
    await turn()
    expect(taken).toEqual([['a'], ['b']])
    expect(await sum).toBe(2)
    expect(messages()).toBe(1)
  })

  it('gives a handle away behind all that was called before', () => {
    const { near, taken } = linked()
    const handle = { fd: 7 }
    near.tell('take', 'first')
    Reflect.apply(near.give, near, ['take', handle, 'second'])
    expect(taken).toEqual([['first'], ['second', handle]])
  })

  it('lets nobody wait for a process that has ended', async () => {
    const { near, taken } = linked()
    const asked = near.ask('never')
    near.tell('take', 'too late')
    near.close()
    await expect(asked).rejects.toThrow(LinkClosedError)
    await expect(near.ask('add', 1, 1)).rejects.toThrow(LinkClosedError)
    await turn()
    expect(taken).toEqual([])
  })
})
