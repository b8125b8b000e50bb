import { execFileSync } from 'node:child_process'
import {
  chmodSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readSync,
  rmSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import type { Audit } from '../../../src/observe/audit.ts'
import { openAudit } from '../../../src/observe/trail-queue.ts'
import { verifyTrail } from '../../../src/observe/trail-verify.ts'
import { keptLog, recordsIn, tempFolder } from './trail.ts'

const dir = tempFolder()
const file = () => dir.path('state', 'audit.jsonl')
const kept = () => recordsIn(file()).map(({ n }) => n)

interface Options {
  readonly onFailure?: 'refuse' | 'warn'
  readonly retryMs?: number
  readonly writeMs?: number
}

/** A trail in a folder of its own, and what it logs. */
async function begin({ onFailure = 'refuse', retryMs = 3_600_000, writeMs = 3_600_000 }: Options = {}) {
  const { log, lines } = keptLog()
  const audit = await openAudit({ dir: dir.path('state'), onFailure, rotateBytes: 1e9, log, retryMs, writeMs })
  return { audit, lines }
}

/** A disk that is full: every write to this device fails with ENOSPC (full(4)). */
function fillDisk(): void {
  mkdirSync(dir.path('state'), { recursive: true })
  rmSync(file(), { force: true })
  symlinkSync('/dev/full', file())
}
const freeDisk = () => rmSync(file())
const write = (audit: Audit, n: number) => audit.write('session opened', { n })

describe('the queue of the audit trail', () => {
  it('answers when the record is written, with its number', async () => {
    const { audit } = await begin()
    expect(await write(audit, 1)).toBe(1)
    expect(kept()).toEqual([1])
    audit.note('session ended', { n: 2 })
    expect(await write(audit, 3)).toBe(3)
    expect(kept()).toEqual([1, 2, 3])
    await audit.close()
  })

  it('keeps the order in which it was told, whoever waits and whoever does not', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(fc.boolean(), { maxLength: 60 }), async waits => {
        rmSync(dir.path('state'), { recursive: true, force: true })
        const { audit } = await begin()
        const seqs = await Promise.all(
          waits.map(async (isAsked, n) => {
            if (isAsked) return await write(audit, n)
            audit.note('session ended', { n })
            return n + 1
          }),
        )
        await audit.close()
        expect(seqs).toEqual(waits.map((_, n) => n + 1))
        expect(kept()).toEqual(waits.map((_, n) => n))
        expect(verifyTrail([file()]).findings).toEqual([])
      }),
      { numRuns: 20 },
    )
  })

  it('writes what waits before it is closed, and takes nothing afterwards', async () => {
    const { audit } = await begin()
    for (let n = 0; n < 500; n++) audit.note('session ended', { n })
    await Promise.all([audit.close(), audit.close()])
    expect(kept()).toHaveLength(500)
    audit.note('session ended', { n: 500 })
    await expect(write(audit, 501)).rejects.toMatchObject({ code: 'WRITE' })
    expect(kept()).toHaveLength(500)
  })

  it('belongs to one process: a second one is told so, until the first has ended', async () => {
    const { audit } = await begin()
    await expect(begin()).rejects.toMatchObject({ code: 'LOCKED' })
    await expect(begin({ onFailure: 'warn' })).rejects.toMatchObject({ code: 'LOCKED' })
    await audit.close()
    await (await begin()).audit.close()
    expect(existsSync(dir.path('state', 'audit.lock'))).toBe(false)
  })

  it('is not begun behind a record that was changed, and the lock is given back', async () => {
    mkdirSync(dir.path('state'))
    writeFileSync(file(), 'nonsense\n')
    await expect(begin()).rejects.toMatchObject({ code: 'CORRUPT' })
    expect(existsSync(dir.path('state', 'audit.lock'))).toBe(false)
  })

  it('says when others may write to the state folder', async () => {
    mkdirSync(dir.path('state'))
    chmodSync(dir.path('state'), 0o777)
    const { audit, lines } = await begin()
    await audit.close()
    expect(lines).toMatchObject([{ level: 'warn', message: 'others may write to the state folder' }])
  })
})

describe('a full disk', () => {
  it('refuses who asks, keeps what has happened, and says so once', async () => {
    fillDisk()
    const { audit, lines } = await begin()
    audit.note('session ended', { n: 1 })
    for (const n of [2, 3]) await expect(write(audit, n)).rejects.toMatchObject({ code: 'WRITE' })
    expect(lines).toMatchObject([{ level: 'error', message: 'audit trail failed', facts: { code: 'WRITE' } }])
    expect(lines[0]?.facts.err).toMatchObject({ cause: { code: 'ENOSPC' } })
    freeDisk()
    expect(await write(audit, 4)).toBe(2)
    expect(kept()).toEqual([1, 4])
    expect(lines.slice(1)).toMatchObject([{ level: 'warn', message: 'audit trail works again' }])
    await audit.close()
    expect(verifyTrail([file()]).findings).toEqual([])
  })

  it('that begins later refuses all who ask at that moment, each for itself', async () => {
    const { audit } = await begin()
    await write(audit, 1)
    fillDisk()
    const answers = await Promise.allSettled([2, 3, 4].map(n => write(audit, n)))
    expect(answers.map(({ status }) => status)).toEqual(['rejected', 'rejected', 'rejected'])
    freeDisk()
    // The file is another one: the chain goes on, and the new file says that it does.
    expect(await write(audit, 5)).toBe(3)
    expect(recordsIn(file())).toMatchObject([{ kind: 'trail continued' }, { n: 5 }])
    await audit.close()
  })

  it('lets them in if that is configured, and writes it down later', async () => {
    fillDisk()
    const { audit, lines } = await begin({ onFailure: 'warn' })
    expect(await write(audit, 1)).toBeUndefined()
    audit.note('session ended', { n: 2 })
    expect(lines.map(({ level }) => level)).toEqual(['error'])
    freeDisk()
    expect(await write(audit, 3)).toBe(3)
    expect(kept()).toEqual([1, 2, 3])
    await audit.close()
  })

  it('that has room again gets what waits, without anybody who asks', async () => {
    fillDisk()
    const { audit, lines } = await begin({ retryMs: 1 })
    await expect(write(audit, 1)).rejects.toThrow()
    audit.note('session ended', { n: 2 })
    freeDisk()
    await expect.poll(() => lines.at(-1)?.message, { timeout: 9000 }).toBe('audit trail works again')
    expect(kept()).toEqual([2])
    await audit.close()
  })

  it('does not fill the memory: what is too much is counted, and the trail says so', async () => {
    fillDisk()
    const { audit } = await begin()
    await expect(write(audit, 0)).rejects.toThrow()
    for (let n = 0; n < 10_003; n++) audit.note('session ended', { n })
    freeDisk()
    await write(audit, 20_000)
    await audit.close()
    expect(recordsIn(file())).toHaveLength(10_002)
    expect(recordsIn(file()).at(-1)).toMatchObject({ kind: 'records lost', count: 3 })
  })

  it('at the end is told: what could not be written is lost', async () => {
    fillDisk()
    const { audit, lines } = await begin()
    audit.note('session ended', { n: 1 })
    await audit.close()
    expect(lines.at(-1)).toMatchObject({ level: 'error', message: 'audit records lost', facts: { count: 1 } })
  })

  it('is no reason not to start; a folder that can not be made is one', async () => {
    writeFileSync(dir.path('state'), 'a file')
    await expect(begin()).rejects.toMatchObject({ code: 'WRITE' })
    const { audit, lines } = await begin({ onFailure: 'warn' })
    expect(await write(audit, 1)).toBeUndefined()
    expect(lines).toMatchObject([{ message: 'audit trail failed' }])
    await audit.close()
  })
})

describe('a disk that does not answer', () => {
  /** A pipe that nobody reads from takes 64 KiB (pipe(7)), and then no more for ever. */
  const PIPE_BYTES = 65_536

  it('holds nobody for ever: neither who asks, nor the end of the gateway', async () => {
    mkdirSync(dir.path('state'))
    execFileSync('mkfifo', [file()])
    const reader = openSync(file(), constants.O_RDWR | constants.O_NONBLOCK)
    writeSync(reader, Buffer.alloc(PIPE_BYTES))
    const { audit, lines } = await begin({ writeMs: 50 })
    await expect(write(audit, 1)).rejects.toThrow('not within 50 ms')
    audit.note('session ended', { n: 2 })
    await audit.close()
    expect(lines).toMatchObject([
      { level: 'error', message: 'audit trail failed' },
      { level: 'error', message: 'audit records lost', facts: { count: 2 } },
    ])
    expect(existsSync(dir.path('state', 'audit.lock'))).toBe(false)
    // The thread that writes has to be let go.
    readSync(reader, Buffer.alloc(2 * PIPE_BYTES))
    closeSync(reader)
  })
})
