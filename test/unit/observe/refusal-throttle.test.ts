import { expect, it, vi } from 'vitest'
import { NO_AUDIT } from '../../../src/observe/audit.ts'
import { throttleRefusals } from '../../../src/observe/refusal-throttle.ts'

function trail(bySource: number, inAll: number) {
  const told: unknown[] = []
  const note = (kind: string, facts: object) => void told.push({ kind, ...facts })
  return { audit: throttleRefusals({ ...NO_AUDIT, note }, { bySource, inAll }, 60_000), told }
}
const refuse = (peer: string) => ['session refused', { peer }] as const

it('each refusal has a record until there are too many of one source; another source still has its own', async () => {
  const { audit, told } = trail(2, 100)
  for (const port of [1, 2, 3, 4]) audit.note(...refuse(`192.0.2.7:${port}`))
  for (const pid of [1, 2, 3]) audit.note(...refuse(`uid 1000 pid ${pid}`))
  audit.note(...refuse('[2001:db8::1]:5'))
  await audit.close()
  expect(told).toEqual([
    ...['192.0.2.7:1', '192.0.2.7:2', 'uid 1000 pid 1', 'uid 1000 pid 2', '[2001:db8::1]:5'].map(peer => ({
      kind: 'session refused',
      peer,
    })),
    { kind: 'refusals counted', count: 3 },
  ])
})

it('many sources together have no more than all may have', async () => {
  const { audit, told } = trail(2, 5)
  for (let host = 0; host < 50; host++) audit.note(...refuse(`192.0.2.${host}:1`))
  await audit.close()
  expect(told).toHaveLength(6)
  expect(told.at(-1)).toEqual({ kind: 'refusals counted', count: 45 })
})

it('after a minute the count is written down and begins anew', async () => {
  vi.useFakeTimers()
  try {
    const { audit, told } = trail(1, 5)
    for (let i = 0; i < 3; i++) audit.note(...refuse('192.0.2.7:1'))
    vi.advanceTimersByTime(60_000)
    audit.note(...refuse('192.0.2.7:1'))
    vi.advanceTimersByTime(60_000)
    await audit.close()
    expect(told).toMatchObject([
      { peer: '192.0.2.7:1' },
      { kind: 'refusals counted', count: 2 },
      { peer: '192.0.2.7:1' },
    ])
  } finally {
    vi.useRealTimers()
  }
})

it('nothing else is counted, however often it happens', () => {
  const { audit, told } = trail(1, 1)
  for (let i = 0; i < 9; i++) audit.note('session ended', { peer: '192.0.2.7:1' })
  expect(told).toHaveLength(9)
})
