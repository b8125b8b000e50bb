import { EventEmitter } from 'node:events'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { rekeyOnSchedule } from '../../../src/ssh/algorithms.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const connection = () => {
  const rekey = vi.fn()
  const client = Object.assign(new EventEmitter(), { end: vi.fn(), _protocol: { rekey } })
  return { rekey, client, sock: { bytesRead: 0, bytesWritten: 0 } }
}

test('keys are changed after each GiB, both directions together', () => {
  const { rekey, client, sock } = connection()
  rekeyOnSchedule(client, sock)
  sock.bytesRead = 2 ** 29
  sock.bytesWritten = 2 ** 29 - 1
  vi.advanceTimersByTime(1000)
  expect(rekey).toHaveBeenCalledTimes(0)
  sock.bytesWritten++
  vi.advanceTimersByTime(1000)
  expect(rekey).toHaveBeenCalledTimes(1)
  sock.bytesWritten += 2 ** 30
  vi.advanceTimersByTime(1000)
  expect(rekey).toHaveBeenCalledTimes(2)
})

test('keys are changed after each hour, and never after the end', () => {
  const { rekey, client, sock } = connection()
  rekeyOnSchedule(client, sock)
  vi.advanceTimersByTime(3_600_000 - 1000)
  expect(rekey).toHaveBeenCalledTimes(0)
  vi.advanceTimersByTime(2000)
  expect(rekey).toHaveBeenCalledTimes(1)
  client.emit('close')
  vi.advanceTimersByTime(7_200_000)
  expect(rekey).toHaveBeenCalledTimes(1)
})

test('a connection whose keys can not be changed is ended', () => {
  const { client, sock } = connection()
  Object.assign(client, { _protocol: {} })
  rekeyOnSchedule(client, sock, { bytes: 10, ms: 1000, lookMs: 1 })
  sock.bytesRead = 11
  vi.advanceTimersByTime(2)
  expect(client.end).toHaveBeenCalled()
})
