import {
  appendFileSync,
  chmodSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { describe, expect, it } from 'vitest'
import { TrailFile } from '../../../src/observe/trail-file.ts'
import { sha256 } from '../../../src/observe/trail-record.ts'
import { verifyTrail } from '../../../src/observe/trail-verify.ts'
import { recordsIn, tempFolder } from './trail.ts'

const dir = tempFolder()
const LARGE = 1024 * 1024
const file = () => dir.path('state', 'audit.jsonl')
const draft = (n: number) => ({ time: '2026-11-25T12:00:00.000Z', kind: 'session opened', facts: { n } }) as const

/** Opens the trail, writes one record for each number at once, and closes. */
async function append(...numbers: readonly number[]): Promise<number> {
  const trail = await TrailFile.open(file(), LARGE)
  try {
    return await trail.append(numbers.map(draft), true)
  } finally {
    await trail.close()
  }
}

const kinds = () => recordsIn(file()).map(({ seq, kind }) => [seq, kind])
const breaks = (...files: string[]) => verifyTrail(files).findings

describe('the file of a trail', () => {
  it('is made with its folder, for its owner only', async () => {
    expect(await append(1)).toBe(1)
    expect(statSync(dir.path('state')).mode & 0o777).toBe(0o700)
    expect(statSync(file()).mode & 0o777).toBe(0o600)
  })

  it('takes from others what they may do with it', async () => {
    await append(1)
    chmodSync(file(), 0o644)
    await append(2)
    expect(statSync(file()).mode & 0o777).toBe(0o600)
  })

  it('goes on where it was left', async () => {
    expect(await append(1, 2)).toBe(1)
    expect(await append(3)).toBe(3)
    expect(breaks(file())).toEqual([])
    expect(recordsIn(file()).map(({ n }) => n)).toEqual([1, 2, 3])
  })

  it('after a crash keeps what was left of a record, in a record of its own', async () => {
    await append(1, 2)
    const text = readFileSync(file())
    const torn = text.subarray(text.indexOf('\n') + 1, -20)
    truncateSync(file(), text.length - 20)
    await append(3)
    expect(breaks(file())).toEqual([])
    expect(recordsIn(file())).toMatchObject([
      { n: 1 },
      {
        seq: 2,
        kind: 'trail repaired',
        tornBytes: torn.length,
        tornSha256: sha256(torn),
        torn: torn.toString('base64'),
      },
      { seq: 3, n: 3 },
    ])
  })

  it('after a crash at every byte goes on with a trail that hangs together', async () => {
    await append(1, 2)
    const text = readFileSync(file())
    const firstEnd = text.indexOf('\n') + 1
    for (let length = 0; length <= text.length; length++) {
      writeFileSync(file(), text.subarray(0, length))
      await append(3)
      expect(breaks(file()), `cut at ${length}`).toEqual([])
      // A record that lacks nothing but its newline is whole.
      const whole = length < firstEnd - 1 ? 0 : length < text.length - 1 ? 1 : 2
      const isTorn = length !== 0 && length !== firstEnd && length !== firstEnd - 1 && length < text.length - 1
      expect(recordsIn(file())).toHaveLength(whole + 1 + (isTorn ? 1 : 0))
    }
  }, 60_000)

  it('with a last line that was changed, or with bytes behind it, is not gone on with', async () => {
    await append(1, 2)
    const text = readFileSync(file(), 'utf8')
    for (const spoilt of [text.replace('"n":2', '"n":3'), `${text}\n`, `${text}nonsense\n`, `${text.slice(0, -1)}x`]) {
      writeFileSync(file(), spoilt)
      await expect(append(3)).rejects.toMatchObject({ name: 'AuditError', code: 'CORRUPT' })
      expect(readFileSync(file(), 'utf8')).toBe(spoilt)
    }
  })

  it('is not touched any more when somebody else has written to it or cut it', async () => {
    const trail = await TrailFile.open(file(), LARGE)
    await trail.append([draft(1)], true)
    const text = readFileSync(file(), 'utf8')
    for (const spoil of [() => appendFileSync(file(), 'x'), () => truncateSync(file(), 9)]) {
      spoil()
      const spoilt = readFileSync(file(), 'utf8')
      await expect(trail.append([draft(2)], true)).rejects.toMatchObject({ code: 'CHANGED' })
      expect(await trail.rollBack()).toBe(true)
      expect(readFileSync(file(), 'utf8')).toBe(spoilt)
      writeFileSync(file(), text)
    }
    expect(await trail.append([draft(2)], true)).toBe(2)
    await trail.close()
  })

  it('that was moved away is followed by a new one with the same chain', async () => {
    const trail = await TrailFile.open(file(), LARGE)
    await trail.append([draft(1)], true)
    renameSync(file(), dir.path('moved'))
    expect(await trail.append([draft(2)], true)).toBe(3)
    expect(kinds()).toEqual([
      [2, 'trail continued'],
      [3, 'session opened'],
    ])
    rmSync(file())
    expect(await trail.append([draft(3)], true)).toBe(5)
    await trail.close()
    expect(breaks(dir.path('moved'), file())).toMatchObject([{ kind: 'broken', line: 1 }])
  })
})

describe('a trail that has grown', () => {
  const ROTATE = 1000
  const rotated = () =>
    readdirSync(dir.path('state'))
      .filter(name => name.startsWith('audit-'))
      .sort()
  const all = () => [...rotated(), 'audit.jsonl'].map(name => dir.path('state', name))

  it('goes on in a new file; the old ones are named by their first record and sort before it', async () => {
    let trail = await TrailFile.open(file(), ROTATE)
    for (let n = 1; n <= 20; n++) {
      await trail.append([draft(n)], n % 2 === 0)
      if (n % 7 === 0) {
        await trail.close()
        trail = await TrailFile.open(file(), ROTATE)
      }
    }
    await trail.close()
    expect(rotated().length).toBeGreaterThan(3)
    for (const name of rotated()) {
      const [first] = recordsIn(dir.path('state', name))
      expect(name).toBe(`audit-${String(first?.seq).padStart(12, '0')}.jsonl`)
      expect(statSync(dir.path('state', name)).size).toBeLessThan(ROTATE + 500)
    }
    expect(breaks(...all())).toEqual([])
    expect(
      all()
        .flatMap(recordsIn)
        .flatMap(({ n }) => n ?? []),
    ).toEqual(Array.from({ length: 20 }, (_, index) => index + 1))
    // Retention: the oldest may go, those between may not.
    expect(breaks(...all().slice(1))).toMatchObject([{ kind: 'begins late' }])
    expect(breaks(...all().filter((_, index) => index !== 1))).toMatchObject([{ kind: 'broken' }])
  })

  it('goes on with the newest old file after a crash between two steps of that', async () => {
    await append(1, 2)
    renameSync(file(), dir.path('state', 'audit-000000000001.jsonl'))
    await append(3)
    expect(recordsIn(file())).toMatchObject([
      { seq: 3, kind: 'trail continued', from: 'audit-000000000001.jsonl' },
      { seq: 4, n: 3 },
    ])
    expect(breaks(...all())).toEqual([])
  })

  it('never overwrites an old file', async () => {
    const trail = await TrailFile.open(file(), 1)
    await trail.append([draft(1)], true)
    writeFileSync(dir.path('state', 'audit-000000000001.jsonl'), 'precious')
    await trail.append([draft(2)], true)
    await trail.close()
    expect(rotated()).toEqual(['audit-000000000001.1.jsonl', 'audit-000000000001.jsonl'])
    expect(readFileSync(dir.path('state', 'audit-000000000001.jsonl'), 'utf8')).toBe('precious')
  })
})
