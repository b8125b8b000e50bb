import { describe, expect, it } from 'vitest'
import { cut, fitTable, widthOf } from '../../../src/cli/fit-table.ts'
import { keysOf } from '../../../src/cli/screen.ts'
import { sessionTable } from '../../../src/cli/session-table.ts'
import { SORTS, sortRows, topRows } from '../../../src/cli/top-rows.ts'
import { type TopScreen, topLines, topTable } from '../../../src/cli/top-view.ts'

const NOW_MS = Date.parse('2026-11-25T12:00:00Z')

function session(id: number, more: Partial<ReturnType<typeof base>> = {}) {
  return { ...base(), id, ...more }
}

function base() {
  const who = {
    who: 'cert:cn=alice',
    peer: '192.0.2.7:50312',
    door: 'tls',
    export: 'disk',
    rights: 'write',
    lease: 'write',
  }
  return {
    id: 0,
    ...who,
    since: '2026-11-25T11:00:00Z',
    reads: 0,
    writes: 0,
    bytesRead: 0,
    bytesWritten: 0,
    inFlight: 0,
    upstreamLost: false,
  }
}

const moved = topRows({
  before: [session(1), session(2, { bytesRead: 100 }), session(4, { bytesRead: 5000 })],
  now: [
    session(1, { bytesWritten: 4096, writes: 4 }),
    session(2, { bytesRead: 20_100, reads: 10, who: 'cert:cn=bob', since: '2026-11-25T11:30:00Z' }),
    session(3, { bytesRead: 1_000_000, export: 'a' }),
    // Its counters can not have gone back: another session of the same number, after a restart.
    session(4, { bytesRead: 10 }),
  ],
  seconds: 2,
})

function screen(more: Partial<TopScreen> = {}): readonly string[] {
  return topLines({
    rows: sortRows(moved, 'traffic'),
    selected: undefined,
    sort: 'traffic',
    reversed: false,
    message: undefined,
    size: { columns: 120, rows: 24 },
    colors: false,
    nowMs: NOW_MS,
    ...more,
  })
}

describe('rows', () => {
  it('say what has moved since the look before, by the second', () => {
    const rates = moved.map(row => [row.id, row.readPerSecond, row.writtenPerSecond, row.requestsPerSecond])
    expect(rates).toEqual([
      [1, 0, 2048, 2],
      [2, 10_000, 0, 5],
      [3, 0, 0, 0],
      [4, 0, 0, 0],
    ])
  })

  it('are sorted by each key, the oldest first among equals', () => {
    const ids = Object.fromEntries(SORTS.map(sort => [sort, sortRows(moved, sort).map(({ id }) => id)]))
    expect(ids).toEqual({
      traffic: [2, 1, 3, 4],
      read: [2, 1, 3, 4],
      written: [1, 2, 3, 4],
      requests: [2, 1, 3, 4],
      who: [1, 3, 4, 2],
      export: [3, 1, 2, 4],
      age: [1, 3, 4, 2],
    })
    expect(sortRows(moved, 'read', true).map(({ id }) => id)).toEqual([1, 3, 4, 2])
  })
})

describe('the screen', () => {
  it('has a summary, the sessions and the keys', () => {
    const lines = screen()
    expect(lines[0]).toBe('4 sessions, read 9.8 KiB/s, written 2 KiB/s, by traffic')
    expect(lines[1]).toMatch(/^ID {2}WHO +FROM +DOOR +EXPORT +RIGHTS +SINCE +READ\/S +WRITE\/S +REQ\/S +OUT$/)
    expect(lines[2]).toMatch(/^2 {3}cert:cn=bob +192\.0\.2\.7:50312 +tls +disk +write +30m 0s +9\.8 KiB +0 B +5 +0$/)
    expect(lines.at(-1)).toContain('k end a session')
    expect(lines).toHaveLength(7)
  })

  it('is never larger than the terminal', () => {
    const rows = sortRows(
      topRows({
        before: [],
        now: Array.from({ length: 2000 }, (_, id) => session(id, { who: `cert:cn=${'x'.repeat(id % 300)}` })),
        seconds: 1,
      }),
      'age',
    )
    for (const columns of [1, 2, 40, 200]) {
      for (const size of [1, 3, 50]) {
        const lines = screen({
          rows,
          selected: 1500,
          size: { columns, rows: size },
          message: 'a long question '.repeat(20),
        })
        expect(lines.length).toBeLessThanOrEqual(size)
        expect(Math.max(...lines.map(widthOf))).toBeLessThanOrEqual(columns)
      }
    }
  })

  it('shows who, what and how much on 40 columns', () => {
    const lines = screen({ size: { columns: 40, rows: 24 } })
    expect(lines[1]).toMatch(/^ID +WHO +EXPORT +READ\/S +WRITE\/S$/)
    expect(lines[2]).toMatch(/^2 +cert:cn=b… +disk +9\.8 KiB +0 B$/)
  })

  it('shows which sessions wait for their upstream, on 40 columns and without colours too', () => {
    const rows = topRows({ before: [], now: [session(1), session(2, { upstreamLost: true })], seconds: 1 })
    const size = { columns: 40, rows: 24 }
    const lines = screen({ rows, size })
    expect(lines[0]).toBe('2 sessions, 1 waits for its upstream, r…')
    expect(lines[2]).toMatch(/^1 +cert:\S*… +disk +0 B +0 B$/)
    expect(lines[3]).toMatch(/^2 +cert:\S*… +disk +waits$/)
    expect(lines.join('')).not.toContain('\u001b')
    const colored = screen({ rows, size, colors: true })
    expect(colored[3]).toBe(`\u001b[33m${lines[3]}\u001b[0m`)
    expect(colored[2]).toBe(lines[2])
    expect(topTable(rows, NOW_MS).split('\n')[2]).toMatch(/ waits .* 0 +0$/)
  })

  it('keeps the chosen one in sight, and marks it without colours too', () => {
    const rows = sortRows(
      topRows({ before: [], now: Array.from({ length: 100 }, (_, id) => session(id)), seconds: 1 }),
      'age',
    )
    const lines = screen({ rows, selected: 70, size: { columns: 80, rows: 10 } })
    expect(lines.filter(line => line.startsWith('>'))).toEqual([expect.stringMatching(/^>70 /)])
    const colored = screen({ rows, selected: 70, size: { columns: 80, rows: 10 }, colors: true })
    expect(colored.filter(line => line.startsWith('\u001b[7m70 '))).toHaveLength(1)
  })

  it('has no colours unless it is told to', () => {
    expect(screen({ message: 'end it? y/n', selected: 1 }).join('')).not.toContain('\u001b')
    expect(screen({ message: 'end it? y/n', colors: true }).at(-1)).toBe('\u001b[33mend it? y/n\u001b[0m')
  })

  it('lets no name speak to the terminal', () => {
    const rows = topRows({
      before: [],
      now: [session(1, { who: 'cert:cn=\u001b[2J\r\n', export: '\u009b1m' })],
      seconds: 1,
    })
    const lines = screen({ rows, size: { columns: 200, rows: 24 } })
    // biome-ignore lint/suspicious/noControlCharactersInRegex: they must not be there
    expect(lines.join('')).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/)
    expect(lines[2]).toContain('cert:cn=\\u{1b}[2J\\u{d}\\u{a}')
  })
})

describe('tables', () => {
  it('have all columns where there is no terminal, and a sentence without rows', () => {
    expect(topTable(moved, NOW_MS).split('\n')).toHaveLength(6)
    expect(topTable([], NOW_MS)).toBe('nobody is on an export\n')
  })

  it('have a column for sessions that wait for their upstream, while there are some', () => {
    const [calm, one] = [session(1), session(2, { upstreamLost: true })]
    expect(sessionTable([calm], NOW_MS)).not.toContain('STATE')
    expect(sessionTable([calm, one], NOW_MS)).toMatch(/ STATE\n.* served\n.* waits for its upstream\n$/)
  })

  it('list 10,000 sessions on 40 columns', () => {
    const many = Array.from({ length: 10_000 }, (_, id) => session(id, { bytesRead: id * 1_000_000 }))
    const lines = sessionTable(many, NOW_MS, 40).trimEnd().split('\n')
    expect(lines).toHaveLength(10_001)
    expect(Math.max(...lines.map(widthOf))).toBeLessThanOrEqual(40)
    expect(lines[10_000]).toMatch(/^9999 +cert:.*disk +9\.3 GiB +0 B$/)
  })

  it('measure what a terminal shows, not code units', () => {
    expect(['abc', '日本', 'e\u0301', '😀'].map(widthOf)).toEqual([3, 4, 1, 2])
    expect(cut('日本語', 5)).toBe('日本…')
    expect(cut('abc', 3)).toBe('abc')
    expect(cut('abc', 0)).toBe('')
    const rows = [{ name: '日本' }, { name: 'ab' }]
    const table = fitTable<{ name: string }>(
      [
        { head: 'N', rank: 0, cell: ({ name }) => name },
        { head: 'M', rank: 0, cell: () => 'x' },
      ],
      rows,
    )
    expect(table).toEqual(['N     M', '日本  x', 'ab    x'])
  })
})

it('keys are letters, arrows in both modes, and Ctrl-C; other sequences are none', () => {
  expect(keysOf('q\u001b[A\u001bOB\u0003')).toEqual(['q', 'up', 'down', 'interrupt'])
  expect(keysOf('\u001b[15~\u001b[1;5Cy')).toEqual(['y'])
})
