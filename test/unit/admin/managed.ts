/** A gateway that has what it is told to have. */
import type { LeaseFacts, Managed, OverlayFacts, SessionFacts } from '../../../src/admin/managed.ts'
import { BOUNDS_SECONDS } from '../../../src/observe/histogram.ts'
import { gauge } from '../../../src/observe/metric-family.ts'

export function session(id: number): SessionFacts {
  const who = { peer: '192.0.2.7:50312', via: '10.0.0.2:4000', who: 'cert:cn=alice', door: 'tls', export: 'disk' }
  const rights = {
    rights: 'write',
    lease: 'write',
    rule: 'nbdgate.yaml:12',
    since: '2026-11-25T10:00:00.000Z',
  } as const
  const counters = { reads: 3, writes: 2, flushes: 1, others: 0, refused: 0, bytesRead: 12288, bytesWritten: 8192 }
  return { id, ...who, ...rights, ...counters, inFlight: 4, upstreamLost: false }
}

export const LEASE: LeaseFacts = {
  export: 'disk',
  sharing: 'readers-or-writer',
  holder: 'cert:cn=alice',
  peer: '192.0.2.7:50312',
  access: 'write',
  since: '2026-11-25T10:00:00.000Z',
  sessions: [7],
}

export const OVERLAY: OverlayFacts = {
  id: 'thin-cert-cn-alice-0123456789abcdef',
  export: 'thin',
  who: 'cert:cn=alice',
  per: 'identity',
  since: '2026-11-25T10:00:00.000Z',
  used: '2026-11-25T11:00:00.000Z',
  kept: false,
  sessions: [7],
  overlay: '/state/overlays/thin-cert-cn-alice-0123456789abcdef',
  bytes: 200_704,
  pid: 4711,
}

const COUNTS = { reads: 3, writes: 2, flushes: 1, others: 0, refused: 0, bytesRead: 12288, bytesWritten: 8192 }
const TIMES = [...BOUNDS_SECONDS.map((_, bucket) => bucket), 0]
const LATENCY = { read: TIMES, write: TIMES, flush: TIMES, other: TIMES }

const WAITING = {
  id: 9,
  export: 'disk',
  sharing: 'exclusive',
  who: 'cert:cn=bob',
  peer: '192.0.2.8:40000',
  access: 'write',
  since: '2026-11-25T10:00:00.000Z',
} as const

const REFUSAL = {
  kind: 'refused',
  time: '2026-11-25T10:00:00.000Z',
  what: 'refused',
  facts: { who: 'cert:cn=mallory', export: 'disk', reason: 'no rule' },
} as const

export function managed(more: Partial<Managed> = {}): Managed {
  return {
    sessions: async () => [session(7)],
    explain: async id =>
      id === 7
        ? { decision: { kind: 'granted', rights: 'write', rule: 'nbdgate.yaml:12' }, steps: [], sharing: 'cluster' }
        : undefined,
    leases: () => [LEASE],
    overlays: async () => [OVERLAY],
    exports: async () => [
      {
        name: 'disk',
        listed: false,
        description: undefined,
        upstream: 'nbd://127.0.0.1:10810/disk',
        upstreamState: 'up',
        doors: undefined,
        sharing: 'cluster',
        sessions: [7],
        leases: [LEASE],
        bytesRead: 1,
        bytesWritten: 2,
      },
    ],
    metrics: async () => [[gauge('nbdgate_connections', 'Connections.', [[1]])]],
    readiness: async () => [{ name: 'doors', problems: [] }],
    about: () => ({
      version: '0.1.0',
      node: '20.20.0',
      since: '2026-11-25T10:00:00.000Z',
      workers: 2,
      doors: [{ kind: 'tls', address: '0.0.0.0:10809' }],
      draining: false,
      connections: 1,
      connectionsLimit: 1000,
      lastReload: undefined,
      auditFailing: false,
    }),
    traffic: async () => [{ name: 'disk', ...COUNTS, inFlight: 4, waits: 0, latency: LATENCY }],
    regions: async name =>
      name === 'disk' ? { sizeBytes: 2, regionBytes: 1, reads: [0, 3], writes: [1, 0] } : undefined,
    waiting: () => [WAITING],
    refusals: () => [REFUSAL],
    certificates: () => [{ use: 'server', file: 'server.pem', ends: '2027-11-25T10:00:00.000Z', state: 'good' }],
    listen: () => () => {},
    kick: async id => id === 7,
    releaseLease: async name => (name === 'disk' ? 1 : 0),
    removeOverlay: async id => (id === OVERLAY.id ? 'removed' : id === 'used' ? 'in use' : 'unknown'),
    keepOverlay: async id => id === OVERLAY.id,
    reload: async () => ({ kind: 'reloaded', sessionsEnded: 0 }),
    drain: () => {},
    ...more,
  }
}
