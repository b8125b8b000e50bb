import * as z from 'zod'
import { type AdminFlags, ask, errorOf } from './admin-client.ts'

const OK = 200

const sessionList = z.object({
  sessions: z.array(
    z.looseObject({
      id: z.number(),
      who: z.string(),
      peer: z.string(),
      door: z.string(),
      export: z.string(),
      rights: z.string(),
      lease: z.string(),
      since: z.string(),
      reads: z.number(),
      writes: z.number(),
      bytesRead: z.number(),
      bytesWritten: z.number(),
      inFlight: z.number(),
      upstreamLost: z.boolean(),
    }),
  ),
})

/** A session as the gateway lists it. */
export type ListedSession = z.infer<typeof sessionList>['sessions'][number]

/** Asks a running gateway for its sessions. @throws UsageError without a socket, Error if there is no answer */
export async function askSessions(flags: AdminFlags): Promise<readonly ListedSession[]> {
  const { status, body } = await ask(flags, 'GET', '/v1/sessions')
  if (status !== OK) throw new Error(errorOf(body))
  return sessionList.parse(body).sessions
}
