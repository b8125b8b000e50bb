/**
 * A lock that a process holds as long as it lives: a file that says which process it is. Its content is there as soon as the
 * file is (link(2)), and it counts only while that very process runs.
 */
import { linkSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { isRunning, type Owner, ownerOf, toOwner } from './owner.ts'

/** A lock that is ours until it is given back. */
export interface ProcessLock {
  release(): void
}

/** Takes a lock; or who has it, `pid` undefined if somebody was faster. @throws the error of node:fs */
export function tryLock(path: string): ProcessLock | { readonly pid: number | undefined } {
  const own = `${path}.${process.pid}`
  const content = JSON.stringify(ownerOf(process.pid))
  writeFileSync(own, content, { mode: 0o600 })
  try {
    if (!isLinked(own, path)) {
      const owner = readOwner(path)
      if (owner !== undefined && isRunning(owner)) return { pid: owner.pid }
      rmSync(path, { force: true })
      if (!isLinked(own, path)) return { pid: undefined }
    }
  } finally {
    rmSync(own, { force: true })
  }
  const isOurs = (): boolean => readText(path) === content
  return { release: () => (isOurs() ? rmSync(path, { force: true }) : undefined) }
}

/** The process that holds a lock; undefined if there is none. */
export function holderOf(path: string): number | undefined {
  const owner = readOwner(path)
  return owner !== undefined && isRunning(owner) ? owner.pid : undefined
}

/** Makes `path` another name of `own`; false if there is something already. */
function isLinked(own: string, path: string): boolean {
  try {
    linkSync(own, path)
    return true
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false
    throw error
  }
}

function readOwner(path: string): Owner | undefined {
  try {
    return toOwner(JSON.parse(readText(path)))
  } catch {
    return undefined
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return ''
  }
}
