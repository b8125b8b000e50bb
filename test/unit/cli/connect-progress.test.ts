import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { bytesText, progressLine, showProgress } from '../../../src/cli/connect-progress.ts'

const MIB = 1024 * 1024

describe('the line at the bottom', () => {
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  it('says who is connected and what moves', () => {
    const before = { sessions: 1, bytesRead: MIB, bytesWritten: 0 }
    const now = { sessions: 2, bytesRead: 3.5 * MIB, bytesWritten: 512 }
    expect(progressLine(before, now, 1)).toBe('2 sessions, read 3.5 MiB (2.5 MiB/s), written 512 B (512 B/s)')
    expect(progressLine(now, { ...before, bytesRead: 0 }, 1)).toBe('1 session, read 0 B (0 B/s), written 0 B (0 B/s)')
    expect(progressLine(now, { sessions: 0, bytesRead: 0, bytesWritten: 0 }, 1)).toBe('')
    expect(bytesText(5000 * 1024 ** 4)).toBe('5000 TiB')
  })

  it('keeps to one line of a narrow terminal', () => {
    let written = ''
    const traffic = () => ({ sessions: 10, bytesRead: 0, bytesWritten: 0 })
    const write = (text: string) => {
      written += text
    }
    const progress = showProgress(traffic, write, () => 40)
    vi.advanceTimersByTime(1000)
    expect(written).toBe('\r\u001b[K10 sessions, read 0 B (0 B/s), written ')
    progress.stop()
  })

  it('makes room for lines that stay, and is gone at the end', () => {
    let written = ''
    let sessions = 0
    const traffic = () => ({ sessions, bytesRead: 0, bytesWritten: 0 })
    const progress = showProgress(traffic, text => {
      written += text
    })
    vi.advanceTimersByTime(3000)
    progress.above('a\n')
    expect(written).toBe('a\n')
    sessions = 1
    vi.advanceTimersByTime(1000)
    written = ''
    progress.above('b\n')
    expect(written.startsWith('\r\u001b[Kb\n1 session, ')).toBe(true)
    written = ''
    progress.stop()
    vi.advanceTimersByTime(3000)
    expect(written).toBe('\r\u001b[K')
  })
})
