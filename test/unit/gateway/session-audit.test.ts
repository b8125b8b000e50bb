import { describe, expect, it } from 'vitest'
import { SessionAudit } from '../../../src/gateway/session-audit.ts'
import type { Audit } from '../../../src/observe/audit.ts'
import { AuditError } from '../../../src/observe/errors.ts'

const ALICE = {
  identity: {
    address: '192.0.2.7',
    certificate: {
      subject: 'CN=alice',
      commonNames: ['alice'],
      organizations: [],
      organizationalUnits: [],
      dnsNames: [],
      emails: [],
      uris: [],
      ips: [],
      fingerprint: 'f'.repeat(64),
      spki: '0'.repeat(64),
      serial: '1A',
      notAfterMs: 0,
    },
  },
  door: 'tls',
} as const
const OPENED = { export: 'disk', rights: 'write', lease: 'write', rule: 'n.yaml:3' } as const

/** A trail that keeps what it is told, and can not be written if told so. */
function session(write: Audit['write'] = async () => 41) {
  const told: unknown[] = []
  const audit: Audit = {
    write: (kind, facts) => {
      told.push({ kind, ...facts })
      return write(kind, facts)
    },
    note: (kind, facts) => void told.push({ kind, ...facts }),
    state: () => undefined,
    close: async () => {},
  }
  return { session: new SessionAudit(audit, 7, { peer: '192.0.2.7:5000' }), told }
}

describe('what the trail says of a session', () => {
  it('is who it was, how that was proven, what was granted by which line, and how it ended', async () => {
    const { session: one, told } = session()
    await one.open(ALICE, OPENED)
    one.end({ reads: 1, bytesRead: 512, ms: 3, why: 'disconnected' })
    one.end({ why: 'client gone' })
    const who = {
      conn: 7,
      peer: '192.0.2.7:5000',
      who: 'cert:cn=alice',
      proof: { by: 'certificate', serial: '1A', fingerprint: `SHA256:${'f'.repeat(64)}` },
      door: 'tls',
    }
    expect(told).toEqual([
      { kind: 'session opened', ...who, decision: 'granted', ...OPENED },
      { kind: 'session ended', ...who, ...OPENED, opened: 41, reads: 1, bytesRead: 512, ms: 3, why: 'disconnected' },
    ])
  })

  it('is nothing of an end where nothing was opened', async () => {
    const { session: one, told } = session(() => Promise.reject(new AuditError('WRITE', 'full')))
    await expect(one.open(ALICE, OPENED)).rejects.toThrow('full')
    one.end({ why: 'client gone' })
    expect(told).toMatchObject([{ kind: 'session opened' }])
  })

  it('has an end also where the opening could not be numbered', async () => {
    const { session: one, told } = session(async () => undefined)
    await one.open(ALICE, OPENED)
    one.end({ why: 'idle' })
    expect(told[1]).toMatchObject({ kind: 'session ended', why: 'idle' })
    expect(told[1]).not.toHaveProperty('opened')
  })

  it('has a refusal once for each export and reason, however often it is asked for', () => {
    const { session: one, told } = session()
    for (let i = 0; i < 3; i++) one.refused(ALICE, { export: 'a\n', reason: 'no rule' })
    one.refused(ALICE, { export: 'a\n', reason: 'denied', rule: 'n.yaml:9' })
    one.refused(ALICE, { reason: 'tls: revoked' })
    expect(told).toMatchObject([
      { kind: 'session refused', decision: 'refused', export: 'a\\u{a}', reason: 'no rule', who: 'cert:cn=alice' },
      { reason: 'denied', rule: 'n.yaml:9' },
      { reason: 'tls: revoked' },
    ])
  })

  it.each([
    [{ uid: 1000, gid: 5 }, 'uid:1000', { by: 'peer credentials', uid: 1000, gid: 5 }],
    [{ address: '::1' }, 'address:::1', { by: 'address' }],
    [{}, 'unknown', { by: 'nothing' }],
  ])('names %j as %s', (identity, who, proof) => {
    const { session: one, told } = session()
    one.refused({ identity, door: 'unix' }, { export: 'disk', reason: 'no rule' })
    expect(told).toMatchObject([{ who, proof }])
  })
})
