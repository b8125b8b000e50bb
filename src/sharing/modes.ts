import type { SharingMode } from '../config/config.ts'

/** What somebody may do with an export while its lease lasts; `write` includes `read`. */
export type Access = 'read' | 'write'

/** Whether two holders may be on an export at the same time. */
export function canShare(mode: SharingMode, one: Access, other: Access): boolean {
  switch (mode) {
    case 'exclusive':
      return false
    case 'readers-or-writer':
      return one === 'read' && other === 'read'
    case 'single-writer':
      return one === 'read' || other === 'read'
    case 'cluster':
      return true
    case 'read-only':
      return one === 'read' && other === 'read'
    default:
      return mode satisfies never
  }
}

/** Whether a mode keeps anybody from joining one with this access. */
export function excludes(mode: SharingMode, access: Access): boolean {
  // In `read-only` nobody writes, so nobody is kept out.
  return mode !== 'read-only' && !(canShare(mode, access, 'read') && canShare(mode, access, 'write'))
}
