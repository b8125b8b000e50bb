import { rm } from 'node:fs/promises'
import { build } from 'esbuild'
import { beforeAll, describe, expect, it, vi } from 'vitest'
import { bootMs } from '../../../src/platform/libc.ts'
import { Fence, Fences } from '../../../src/sharing/fence.ts'
import { run, start } from '../../support/process.ts'
import { isStopped } from '../../support/procfs.ts'
import { waitFor } from '../../support/wait.ts'

const LONG_MS = 60_000
/** Nothing is watched here: who passes in order is left alone. */
const from = (untilMs: number) => ({ untilMs, goneMs: untilMs + LONG_MS })

it('a fence is open until its moment, and then calls once who wants to know', async () => {
  const fence = new Fence(from(bootMs() + 300))
  const whys: string[] = []
  fence.hold('write', why => whys.push(why))
  expect(fence.isOpen()).toBe(true)
  await vi.waitFor(() => expect(whys).toEqual(['leases lost: they have run out']))
  expect(fence.isOpen()).toBe(false)
  fence.hold('write', why => whys.push(`late: ${why}`))
  fence.end('again')
  expect(whys).toEqual(['leases lost: they have run out', 'late: leases lost: they have run out'])
})

it('a fence that is asked after its moment passes without its timer', () => {
  const fence = new Fence(from(bootMs() - 1))
  const whys: string[] = []
  fence.hold('write', why => whys.push(why))
  expect(fence.isOpen()).toBe(false)
  expect(whys).toHaveLength(1)
})

it('a fence that is held after its moment ends who holds it, and nothing else', () => {
  const now = bootMs()
  const fence = new Fence({ untilMs: now - 2, goneMs: now - 1 })
  const whys: string[] = []
  fence.hold('write', why => whys.push(why))
  expect(whys).toHaveLength(1)
})

it('a fence that has passed does not come back, whatever arrives late', () => {
  const fence = new Fence(from(bootMs() - 1))
  fence.extend(from(bootMs() + LONG_MS))
  expect(fence.isOpen()).toBe(false)
})

it('a fence is extended, and never shortened', () => {
  const fence = new Fence(from(bootMs() + LONG_MS))
  fence.extend(from(bootMs() - 1))
  expect(fence.isOpen()).toBe(true)
  fence.end('over')
  expect(fence.isOpen()).toBe(false)
})

it('who has taken its wish back is not called', () => {
  const fence = new Fence(from(bootMs() + LONG_MS))
  const whys: string[] = []
  fence.hold('write', why => whys.push(why))()
  fence.end('over')
  expect(whys).toEqual([])
})

it('fences go by term: an end or an extension of one leaves others alone', () => {
  const fences = new Fences()
  const untilMs = bootMs() + LONG_MS
  const one = fences.of({ id: 'one', ...from(untilMs) })
  const two = fences.of({ id: 'two', ...from(untilMs) })
  expect(fences.of({ id: 'one', ...from(0) })).toBe(one)
  fences.end('one', 'over')
  fences.extend({ id: 'one', ...from(untilMs * 2) })
  fences.extend({ id: 'unknown', ...from(untilMs) })
  expect([one.isOpen(), two.isOpen()]).toEqual([false, true])
  expect(fences.of({ id: 'one', ...from(untilMs) }).isOpen()).toBe(false)
})

describe('a process that was held up between asking and writing', () => {
  const program = `.work/fenced-${process.pid}.mjs`
  const command = (...args: readonly string[]): readonly string[] => [process.execPath, program, ...args]

  beforeAll(async () => {
    const entry = 'test/support/fenced-program.ts'
    await build({
      entryPoints: [entry],
      outfile: program,
      bundle: true,
      platform: 'node',
      format: 'esm',
      external: ['koffi'],
    })
    return () => rm(program)
  })

  it('is ended by the kernel while it is stopped, where somebody may write', async () => {
    // Nobody has it go on.
    const { signal, stdout } = await run(command('write', 'stop', '2000', '2100'))
    expect({ signal, stdout }).toEqual({ signal: 'SIGKILL', stdout: 'asked ' })
  })

  it('goes on where all may only read, and finds out at the next question', async () => {
    const child = await start(command('read', 'stop', '2000', '2100'), { ready: () => true })
    await waitFor('its stop', () => isStopped(child.pid))
    const end = bootMs() + 2200
    await waitFor('the end of its time', () => bootMs() > end)
    child.kill('SIGCONT')
    expect(await child.waitForExit()).toEqual({ code: 0, signal: null })
    expect(child.stdout()).toBe('asked latepassed ')
  })

  it('is left alone where its fence has passed in order, or nobody holds it any more', async () => {
    expect(await run(command('write', 'order', '200', '3000'))).toMatchObject({ code: 0, stdout: 'passed alive' })
    expect(await run(command('nobody', 'order', '200', '3000'))).toMatchObject({ code: 0, stdout: 'alive' })
  })

  it.runIf(process.getuid?.() === 0)(
    'is ended also as the first of a container, which no SIGKILL of its own ends',
    async () => {
      const container = ['unshare', '--pid', '--fork', '--kill-child', '--mount-proc']
      const { code, stdout } = await run([...container, ...command('write', 'block', '2000', '2100')])
      expect({ code, stdout }).toEqual({ code: 14, stdout: 'asked ' })
    },
  )
})
