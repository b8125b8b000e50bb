/** What the admin API answers, as schemas: the OpenAPI description is made of them. Fields are stable within `/v1`. */
import { z } from '@hono/zod-openapi'

export const rights = z.enum(['read', 'write'])
export const time = z.iso.datetime().describe('ISO 8601.')

export const sessionSchema = z
  .object({
    id: z.int().describe('The `conn` of its log lines.'),
    peer: z.string(),
    via: z.string().optional().describe('The balancer that has passed it on.'),
    who: z.string(),
    door: z.string(),
    export: z.string(),
    rights,
    lease: z.enum(['read', 'write', 'none']).describe('`none`: it may only look on beside whoever has the lease.'),
    rule: z.string().describe('What granted them: `nbdgate.yaml:34`.'),
    since: time,
    reads: z.int(),
    writes: z.int(),
    flushes: z.int(),
    others: z.int(),
    refused: z.int().describe('Requests that the gateway answered with an error itself.'),
    bytesRead: z.int(),
    bytesWritten: z.int(),
    inFlight: z.int().describe('Requests that the upstream has not answered.'),
    upstreamLost: z.boolean().describe('Its upstream is away: what it asks for waits until that is back.'),
  })
  .openapi('Session')

export const leaseSchema = z
  .object({
    export: z.string(),
    sharing: z.string(),
    holder: z.string(),
    peer: z.string().describe('Where its oldest session comes from.'),
    access: rights,
    since: time,
    sessions: z.array(z.int()).readonly().describe('Those of this gateway, by their `id`, the oldest first.'),
    gateway: z.string().optional().describe('The gateway that it is held through; absent: this one.'),
  })
  .openapi('Lease')

export const overlaySchema = z
  .object({
    id: z.string(),
    export: z.string(),
    who: z.string(),
    per: z.enum(['connection', 'identity', 'export']),
    since: time,
    used: time.describe('When the last of its connections has ended; now while there are some.'),
    kept: z.boolean().describe('It does not age.'),
    sessions: z.array(z.int()).readonly().describe('Connections that it is for.'),
    overlay: z.string().describe('The file that `{overlay}` names, whether there is one or not.'),
    bytes: z.number().optional().describe('On disk; absent without a file there.'),
    pid: z.int().optional().describe('Of the server that runs for it.'),
  })
  .openapi('Overlay')

export const exportSchema = z
  .object({
    name: z.string(),
    listed: z.boolean().describe('An upstream lists it; it is not written down.'),
    description: z.string().optional(),
    upstream: z.string().describe('Where it leads, without anything secret.'),
    upstreamState: z.enum(['up', 'down', 'unknown']).describe('Whether it answered when it was asked last.'),
    doors: z.array(z.string()).readonly().optional().describe('Absent: all of them.'),
    sharing: z.string(),
    sessions: z.array(z.int()).readonly().describe('By their `id`, the oldest first.'),
    leases: z.array(leaseSchema).readonly(),
    bytesRead: z.int().describe('Since the gateway has started.'),
    bytesWritten: z.int(),
  })
  .openapi('Export')

export const readinessSchema = z
  .object({
    ready: z.boolean(),
    checks: z
      .array(z.object({ name: z.string(), ok: z.boolean(), problems: z.array(z.string()).readonly() }))
      .describe('Absent for who has no token.')
      .optional(),
  })
  .openapi('Readiness')

export const reloadSchema = z
  .discriminatedUnion('kind', [
    z.object({ kind: z.literal('reloaded'), sessionsEnded: z.int() }),
    z.object({ kind: z.literal('failed'), problems: z.array(z.string()).readonly() }),
  ])
  .openapi('Reload')

const limit = z.number().optional()

const decisionSchema = z.discriminatedUnion('kind', [
  z.object({
    kind: z.literal('granted'),
    rights,
    rule: z.string(),
    untilMs: z.number().optional(),
    limits: z.object({ sessions: limit, read: limit, write: limit, iops: limit }).optional(),
  }),
  z.object({ kind: z.literal('refused'), reason: z.string(), rule: z.string().optional() }),
])

export const explanationSchema = z
  .object({
    decision: decisionSchema,
    steps: z
      .array(
        z.object({
          rule: z.string(),
          kind: z.enum(['deny', 'allow']),
          rights: rights.optional(),
          untilMs: z.number().optional(),
          who: z.array(z.string()).readonly(),
          outcome: z.enum(['decides', 'not met', 'expired', 'outdone', 'not looked at']),
          unmet: z.array(z.string()).readonly().describe('The conditions that do not hold.'),
        }),
      )
      .readonly()
      .describe('All rules of the export in the order in which they count.'),
    sharing: z
      .string()
      .optional()
      .describe('Of the export: where it is read-only nobody writes, whatever the rules say.'),
  })
  .openapi('Explanation')

export const eventSchema = z
  .object({
    kind: z.enum(['opened', 'ended', 'refused', 'reloaded', 'lease', 'upstream', 'skipped']),
    time,
    what: z.string().describe("The log's words for it."),
    facts: z.record(z.string(), z.unknown()).describe("The fields of the log's line."),
  })
  .openapi('Event')

export const errorSchema = z.object({ error: z.string() }).openapi('Error')
