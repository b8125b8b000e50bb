import { spawnSync } from 'node:child_process'
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { takeLock } from '../../../src/observe/trail-lock.ts'
import { tempFolder } from './trail.ts'

const dir = tempFolder()
const path = () => dir.path('audit.lock')

/** The lock as this process writes it, with something else in it. */
function lockedBy(changed: Readonly<Record<string, unknown>>): void {
  const lock = takeLock(path())
  const own: Record<string, unknown> = JSON.parse(readFileSync(path(), 'utf8'))
  lock.release()
  writeFileSync(path(), JSON.stringify({ ...own, ...changed }))
}

describe('the lock of a trail', () => {
  it('is one process’s until it is given back', () => {
    const lock = takeLock(path())
    expect(() => takeLock(path())).toThrow(expect.objectContaining({ code: 'LOCKED' }))
    expect(() => takeLock(path())).toThrow(`process ${process.pid} writes this audit trail`)
    lock.release()
    expect(existsSync(path())).toBe(false)
    takeLock(path()).release()
    expect(readdirSync(dir.path())).toEqual([])
  })

  it('of a process that has ended counts no more', () => {
    const { pid } = spawnSync(process.execPath, ['--version'])
    lockedBy({ pid })
    takeLock(path()).release()
  })

  it.each([
    ['whose number another process has by now', { started: '1' }],
    ['of another boot', { boot: 'another' }],
    ['of another container', { namespace: 'pid:[1]' }],
  ])('of a process %s counts no more', (_title, changed) => {
    lockedBy(changed)
    takeLock(path()).release()
  })

  it.each(['', 'nonsense', '{}', '{"pid":"1"}', 'null'])('with the content %j counts no more', content => {
    writeFileSync(path(), content)
    takeLock(path()).release()
  })

  it('that another process has taken over is not given back', () => {
    const lock = takeLock(path())
    writeFileSync(path(), 'theirs')
    lock.release()
    expect(readFileSync(path(), 'utf8')).toBe('theirs')
  })
})
