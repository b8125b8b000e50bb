// LUKS headers that sessions in several processes watch over.
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { GuardDesk } from '../../../src/gateway/guard-desk.ts'

const bytes = (text: string): Buffer => Buffer.from(text)

describe('the lock of a header', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  function desk() {
    const taken: number[] = []
    const guards = new GuardDesk(async conn => void taken.push(conn))
    for (const conn of [1, 2, 3]) guards.guard(conn, 'disk', bytes(`as ${conn} found it`))
    const got: string[] = []
    const lock = (conn: number): void => {
      void guards.lock(conn).then(header => got.push(`${conn} ${header?.toString() ?? 'nothing'}`))
    }
    return { guards, taken, got, lock }
  }

  it('is given to one after the other, with the header as the last one has left it', async () => {
    const { guards, got, lock } = desk()
    for (const conn of [1, 2, 3]) lock(conn)
    await vi.advanceTimersByTimeAsync(0)
    expect(got).toEqual(['1 as 1 found it'])
    guards.unlock(2, bytes('by somebody without the lock'))
    guards.unlock(1, bytes('as 1 wrote it'))
    await vi.advanceTimersByTimeAsync(0)
    expect(got.slice(1)).toEqual(['2 as 1 wrote it'])
    guards.unlock(2, undefined)
    await vi.advanceTimersByTimeAsync(0)
    expect(got.slice(2)).toEqual(['3 as 1 wrote it'])
  })

  it('goes on when the session that has it ends', async () => {
    const { guards, got, lock } = desk()
    lock(1)
    lock(2)
    guards.unguard(1)
    await vi.advanceTimersByTimeAsync(0)
    expect(got).toEqual(['1 as 1 found it', '2 as 1 found it'])
    lock(3)
    guards.unguard(3)
    await vi.advanceTimersByTimeAsync(0)
    expect(got.at(-1)).toBe('3 nothing')
  })

  it('is taken from who keeps others waiting', async () => {
    const { guards, taken, got, lock } = desk()
    lock(1)
    await vi.advanceTimersByTimeAsync(60_000)
    expect(taken).toEqual([])
    lock(2)
    await vi.advanceTimersByTimeAsync(10_000)
    expect(taken).toEqual([1])
    expect(got.at(-1)).toBe('2 as 1 found it')
    guards.unlock(1, bytes('too late'))
    guards.unlock(2, undefined)
    lock(3)
    await vi.advanceTimersByTimeAsync(0)
    expect(got.at(-1)).toBe('3 as 1 found it')
  })

  it('knows nothing of an export that nobody watches over', async () => {
    const { guards, got, lock } = desk()
    for (const conn of [1, 2, 3]) guards.unguard(conn)
    guards.guard(4, 'disk', bytes('fresh'))
    lock(4)
    await vi.advanceTimersByTimeAsync(0)
    expect(got).toEqual(['4 fresh'])
  })
})
