import { afterEach, describe, expect, it, vi } from 'vitest'
import type { UpstreamConfig } from '../../../src/config/config.ts'
import { parseUpstreamUri } from '../../../src/config/upstream-uri.ts'
import { DialQueue } from '../../../src/upstreams/dial-queue.ts'
import { settled } from '../../support/bytes.ts'

/** nbd-server's backlog is 10. */
const AT_ONCE = 8

function upstream(uri: string): UpstreamConfig {
  const parsed = parseUpstreamUri(uri)
  if (!parsed.ok) throw new Error(parsed.problem)
  return parsed.value
}

const SERVER = upstream('nbd://127.0.0.1:10810/disk')
const OTHER_EXPORT = upstream('nbd://127.0.0.1:10810/other')
const OTHER_SERVER = upstream('nbd+unix:///disk?socket=/run/nbd.sock')

/** Dials that end when the test says so. */
function crowd(queue: DialQueue) {
  const dialled: { readonly name: string; end(): void; fail(): void }[] = []
  const dial = (to: UpstreamConfig, name: string) => {
    const dialling = queue.run(to, () => {
      return new Promise<string>((resolve, reject) => {
        dialled.push({ name, end: () => resolve(name), fail: () => reject(new Error(name)) })
      })
    })
    // Those that a test leaves waiting are sent away some time after it.
    dialling.catch(() => {})
    return dialling
  }
  return { dial, dialled, names: () => dialled.map(({ name }) => name) }
}

describe('a crowd before one server', () => {
  afterEach(() => void vi.useRealTimers())

  it('dials a few at a time, in order of arrival, whatever the export', async () => {
    const { dial, dialled, names } = crowd(new DialQueue())
    const all = Array.from({ length: AT_ONCE + 2 }, (_, i) => dial(i % 2 === 0 ? SERVER : OTHER_EXPORT, `${i}`))
    await settled()
    expect(names()).toEqual(['0', '1', '2', '3', '4', '5', '6', '7'])
    dialled[3]?.end()
    await expect(all[3]).resolves.toBe('3')
    await settled()
    expect(names().slice(AT_ONCE)).toEqual(['8'])
    dialled[0]?.end()
    await settled()
    expect(names().slice(AT_ONCE)).toEqual(['8', '9'])
  })

  it('gives the place of a dial that failed to the next one, and keeps none of those who left', async () => {
    const { dial, dialled, names } = crowd(new DialQueue())
    const first = Array.from({ length: AT_ONCE }, (_, i) => dial(SERVER, `${i}`))
    void dial(SERVER, 'next')
    await settled()
    for (const each of [...dialled]) each.fail()
    expect((await Promise.allSettled(first)).map(({ status }) => status)).toEqual(first.map(() => 'rejected'))
    for (let i = 1; i < AT_ONCE; i++) void dial(SERVER, `again ${i}`)
    await settled()
    expect(names().slice(AT_ONCE)).toEqual(['next', ...Array.from({ length: 7 }, (_, i) => `again ${i + 1}`)])
  })

  it('keeps nobody from another server, or from a file', async () => {
    const { dial, names } = crowd(new DialQueue())
    for (let i = 0; i < AT_ONCE; i++) void dial(SERVER, `${i}`)
    void dial(OTHER_SERVER, 'other')
    for (let i = 0; i <= AT_ONCE; i++) void dial({ kind: 'file', path: '/srv/disk.img' }, 'file')
    await settled()
    expect(names()).toContain('other')
    expect(names().filter(name => name === 'file')).toHaveLength(AT_ONCE + 1)
  })

  it('sends a visitor away whose turn does not come, and goes on with the next', async () => {
    vi.useFakeTimers()
    const { dial, dialled, names } = crowd(new DialQueue())
    for (let i = 0; i < AT_ONCE; i++) void dial(SERVER, `${i}`)
    const late = expect(dial(SERVER, 'late')).rejects.toMatchObject({ name: 'UpstreamError', code: 'DIAL' })
    await vi.advanceTimersByTimeAsync(5000)
    await late
    void dial(SERVER, 'later')
    dialled[0]?.end()
    await vi.advanceTimersByTimeAsync(0)
    expect(names().slice(AT_ONCE)).toEqual(['later'])
  })
})
