import type { Visitor } from '../doors/door.ts'
import type { Audit } from '../observe/audit.ts'
import type { AuditFacts } from '../observe/trail-record.ts'
import type { Identity, Rights } from '../policy/identity.ts'
import { nameOf } from '../policy/identity.ts'
import { printable } from '../protocol/strings.ts'
import type { Counters } from '../relay/requests.ts'
import type { Asker } from './control.ts'

/** A no, and what it was decided by. */
export interface RefusedSession {
  readonly export?: string
  readonly reason: string
  readonly rule?: string | undefined
  readonly code?: string
  /** Who was in the way. */
  readonly holder?: string
}

/** What a session was opened with. */
export interface OpenedSession {
  readonly export: string
  readonly rights: Rights
  readonly lease: Rights | 'none'
  readonly rule: string
}

/** What the audit trail says of one connection: refused how, opened with what, and how it ended. */
export class SessionAudit {
  readonly #audit: Audit
  readonly #conn: number
  readonly #visitor: Pick<Visitor, 'peer' | 'via'>
  readonly #told = new Set<string>()
  #opened: AuditFacts | undefined

  constructor(audit: Audit, conn: number, visitor: Pick<Visitor, 'peer' | 'via'>) {
    this.#audit = audit
    this.#conn = conn
    this.#visitor = visitor
  }

  /** Once for each export and reason: a client may ask for the same thing over and over. Whether it was the first time. */
  refused(asker: Asker, refused: RefusedSession): boolean {
    const facts = { ...refused, ...(refused.export !== undefined && { export: printable(refused.export) }) }
    const key = JSON.stringify([facts.export, facts.reason])
    if (this.#told.has(key)) return false
    this.#told.add(key)
    this.#audit.note('session refused', { ...this.#base(asker), decision: 'refused', ...facts })
    return true
  }

  /** Before the visitor gets the export. @throws AuditError when nobody may get in unseen */
  async open(asker: Asker, opened: OpenedSession): Promise<void> {
    const facts = { ...this.#base(asker), decision: 'granted', ...opened, export: printable(opened.export) }
    const seq = await this.#audit.write('session opened', facts)
    this.#opened = { ...facts, ...(seq === undefined ? {} : { opened: seq }) }
  }

  /** What it did, and why it ended; says nothing for a session that was not opened, and nothing twice. */
  end(facts: Partial<Counters> & { readonly ms?: number; readonly why: string }): void {
    if (this.#opened === undefined) return
    const { decision: _decision, ...opened } = this.#opened
    this.#opened = undefined
    this.#audit.note('session ended', { ...opened, ...facts })
  }

  #base({ identity, door }: Asker): AuditFacts {
    const { peer, via } = this.#visitor
    const from = { peer, ...(via === undefined ? {} : { via }) }
    return { conn: this.#conn, ...from, who: nameOf(identity), proof: proofOf(identity), door }
  }
}

/** How an identity was proven, with what finds the certificate again. */
function proofOf(identity: Identity): Readonly<Record<string, unknown>> {
  const { certificate, psk, ssh, uid, gid } = identity
  if (certificate !== undefined) {
    const { serial, fingerprint } = certificate
    return { by: 'certificate', serial, fingerprint: `SHA256:${fingerprint}` }
  }
  if (psk !== undefined) return { by: 'psk', name: psk }
  if (ssh !== undefined) {
    const { user, key, keyId, serial } = ssh
    return { by: serial === undefined ? 'ssh key' : 'ssh certificate', key, user, keyId, serial }
  }
  if (uid !== undefined) return { by: 'peer credentials', uid, gid }
  return { by: identity.address === undefined ? 'nothing' : 'address' }
}
