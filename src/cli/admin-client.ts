/** The other end of the admin socket: `nbdgate sessions`, `kick`, `reload`, `drain`. */
import { once } from 'node:events'
import { type IncomingMessage, request } from 'node:http'
import { text } from 'node:stream/consumers'
import * as z from 'zod'
import { loadConfig } from '../config/load.ts'
import { whoProblem } from '../policy/who.ts'
import { UsageError } from './errors.ts'

/** How long the gateway may take to answer; a reload reads files, no more. */
const ANSWER_MS = 30_000

/** Where the gateway is: its admin socket, or the configuration that names it. */
export interface AdminFlags {
  readonly socket?: string
  readonly config?: string
}

/** An answer: its HTTP status, and its JSON (undefined where there is none). */
export interface Answer {
  readonly status: number
  readonly body: unknown
}

/** Asks a running gateway; `said` goes along as JSON. @throws UsageError without a socket, Error if nobody answers there */
export async function ask(flags: AdminFlags, method: string, path: string, said?: object): Promise<Answer> {
  const socketPath = socketOf(flags)
  try {
    const signal = AbortSignal.timeout(ANSWER_MS)
    const headers = said === undefined ? {} : { 'Content-Type': 'application/json' }
    const sent = request({ socketPath, method, path, headers, signal }).end(said && JSON.stringify(said))
    const [response]: IncomingMessage[] = await once(sent, 'response', { signal })
    if (response === undefined) throw new Error('no answer')
    const body = await text(response)
    return { status: response.statusCode ?? 0, body: body === '' ? undefined : JSON.parse(body) }
  } catch (error) {
    throw new Error(`${socketPath}: ${whyNot(error)}`, { cause: error })
  }
}

/** What a failed request says of itself. */
export function errorOf(body: unknown): string {
  const parsed = z.object({ error: z.string() }).safeParse(body)
  return parsed.success ? parsed.data.error : 'the gateway gave an answer that is not known here'
}

function socketOf({ socket, config }: AdminFlags): string {
  if (socket !== undefined) return socket
  if (config === undefined) throw new UsageError('where is the gateway? --socket PATH, or --config FILE that names it')
  const named = loadConfig(config, { validateWho: whoProblem }).admin?.socket
  if (named === undefined) throw new UsageError(`${config}: there is no admin.socket`)
  return named
}

function whyNot(error: unknown): string {
  const code = error instanceof Error && 'code' in error ? error.code : undefined
  switch (code) {
    case 'ENOENT':
      return 'there is no such socket; is the gateway running?'
    case 'ECONNREFUSED':
      return 'nobody listens there; is the gateway running?'
    case 'EACCES':
      return 'permission denied'
    default:
      return error instanceof Error ? error.message : String(error)
  }
}
