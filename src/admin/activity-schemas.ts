/** What the admin API answers of the gateway itself and of what goes on in it. Fields are stable within `/v1`. */
import { z } from '@hono/zod-openapi'
import { rights, time } from './schemas.ts'

export const gatewaySchema = z
  .object({
    version: z.string(),
    node: z.string(),
    since: time,
    workers: z.int().describe('Processes that sessions run in; 0: they run in the main process.'),
    doors: z.array(z.object({ kind: z.string(), address: z.string() })).readonly(),
    draining: z.boolean(),
    connections: z.int().describe('From accept to close.'),
    connectionsLimit: z.int(),
    lastReload: z.enum(['reloaded', 'failed']).optional().describe('Absent before the first one.'),
    auditFailing: z.boolean().describe('Nothing can be written to the audit trail.'),
    access: z.enum(['look', 'full']).describe('`full`: what changes something can be asked for here.'),
  })
  .openapi('Gateway')

const times = z.array(z.int()).readonly()

export const trafficSchema = z
  .object({
    bounds: z.array(z.number()).readonly().describe('Upper bounds of the buckets of `latency`, in seconds.'),
    exports: z
      .array(
        z.object({
          name: z.string().describe('As metrics name it: 128 characters at most.'),
          reads: z.int(),
          writes: z.int(),
          flushes: z.int(),
          others: z.int(),
          refused: z.int(),
          bytesRead: z.int(),
          bytesWritten: z.int(),
          inFlight: z.int(),
          waits: z.int().describe('How often a session had to wait for its rate limit.'),
          latency: z
            .object({ read: times, write: times, flush: times, other: times })
            .describe('Timed requests by how long the upstream took: one count a bucket, and one for what is longer.'),
        }),
      )
      .readonly(),
  })
  .openapi('Traffic')

export const regionsSchema = z
  .object({
    sizeBytes: z.int().describe('0: nobody has been there.'),
    regionBytes: z.int().describe('How long a region is; the last one may be shorter.'),
    reads: times.describe('Requests that have touched it, one count a region.'),
    writes: times.describe('WRITE, TRIM and WRITE_ZEROES.'),
  })
  .openapi('Regions')

export const waitingSchema = z
  .object({
    id: z.int().describe('The `conn` of its log lines; if it gets its place, the `id` of its session.'),
    export: z.string(),
    sharing: z.string(),
    who: z.string(),
    peer: z.string(),
    access: rights,
    since: time,
  })
  .openapi('Waiting')

export const certificateSchema = z
  .object({
    use: z.enum(['server', 'client-ca', 'crl', 'upstream-client', 'upstream-ca']),
    file: z.string(),
    ends: time.optional().describe('When the first in it ends; absent: never, or it can not be read.'),
    state: z.enum(['good', 'soon', 'over', 'unreadable']).describe('`soon`: within a week.'),
  })
  .openapi('Certificate')
