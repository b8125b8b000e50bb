/**
 * A client of etcd's JSON gateway: one member at a time, another one when that fails. It knows who it is talking to: an
 * answer of another cluster, or of one that has forgotten what it knew, is none. Not here: what is asked.
 *
 * Not the package etcd3: gRPC with twenty packages behind it for five questions that are JSON over HTTP, and what it would
 * be good for (leases, elections, locks) is just what must not be left to a client that keeps its own time.
 */
import { type ClientRequest, type IncomingMessage, Agent as PlainAgent, request } from 'node:http'
import { Agent, request as requestTls } from 'node:https'
import type { z } from 'zod'
import { EtcdError } from './errors.ts'
import type { EtcdMaterial } from './etcd-material.ts'
import {
  authAnswer,
  base64,
  type Compare,
  endOf,
  errorAnswer,
  type headed,
  type KeyValue,
  rangeAnswer,
  type Step,
  txnAnswer,
  watchLine,
} from './etcd-messages.ts'

/** Longest answer, and longest line of a watch. */
const MAX_ANSWER_BYTES = 64 * 1024 * 1024
/** Keys that are asked for at once. */
const PAGE_KEYS = 2000
/** gRPC's words. */
const Grpc = { INVALID_ARGUMENT: 3, PERMISSION_DENIED: 7, FAILED_PRECONDITION: 9, UNAUTHENTICATED: 16 } as const

export interface EtcdClientOptions {
  readonly endpoints: readonly string[]
  readonly material: EtcdMaterial
  /** How long one member may take. */
  readonly attemptMs: number
}

/** What a transaction came to. `found`: what `get`s of the steps that ran have found. */
export interface TxnResult {
  readonly succeeded: boolean
  readonly revision: number
  readonly found: readonly KeyValue[]
}

/** What a watch says. */
export interface WatchNews {
  /** Puts, and deletes with `isGone`; whole revisions, in their order. */
  readonly events: readonly (KeyValue & { readonly isGone: boolean })[]
}

export class EtcdClient {
  readonly #options: EtcdClientOptions
  readonly #agent: Agent
  readonly #plainAgent = new PlainAgent({ keepAlive: true })
  #index = 0
  #token: string | undefined
  #cluster: string | undefined
  /** The latest that a linearizable answer has shown. */
  #revision = 0

  constructor(options: EtcdClientOptions) {
    const { ca, cert, key } = options.material
    this.#options = options
    this.#agent = new Agent({
      keepAlive: true,
      minVersion: 'TLSv1.2',
      ...(ca && { ca }),
      ...(cert && { cert }),
      ...(key && { key }),
    })
  }

  /** All or nothing, at one revision: `success` if all conditions hold, else `failure`. @throws EtcdError */
  async txn(compare: readonly Compare[], success: readonly Step[], failure: readonly Step[] = []): Promise<TxnResult> {
    const answer = await this.#ask('/v3/kv/txn', { compare, success, failure }, txnAnswer)
    const found = answer.responses.flatMap(each => each.response_range?.kvs ?? [])
    return { succeeded: answer.succeeded, revision: answer.header.revision, found }
  }

  /** All keys that begin with `prefix`, as they are at one revision. @throws EtcdError */
  async all(prefix: string): Promise<{ readonly revision: number; readonly found: readonly KeyValue[] }> {
    const found: KeyValue[] = []
    let from = prefix
    let revision = 0
    for (;;) {
      const question = { key: base64(from), range_end: base64(endOf(prefix)), limit: PAGE_KEYS }
      const at = revision === 0 ? {} : { revision }
      const answer = await this.#ask('/v3/kv/range', { ...question, ...at }, rangeAnswer)
      revision ||= answer.header.revision
      found.push(...answer.kvs)
      const last = answer.kvs.at(-1)
      if (!answer.more || last === undefined) return { revision, found }
      from = `${last.key}\0`
    }
  }

  /**
   * Tells all that happens to keys that begin with `prefix`, from a revision on. Never resolves: rejects when the
   * connection ends or `signal` says so, and with CompactedError if the revision is there no more.
   */
  async watch(prefix: string, revision: number, news: (news: WatchNews) => void, signal: AbortSignal): Promise<never> {
    const create = { key: base64(prefix), range_end: base64(endOf(prefix)), start_revision: String(revision) }
    const endpoint = this.#endpoint()
    if (this.#options.material.login !== undefined) await this.#authenticate(endpoint, signal)
    const response = await this.#send(endpoint, '/v3/watch', { create_request: create }, signal)
    if (response.statusCode !== 200) throw this.#errorOf(response.statusCode, await readAll(response))
    let rest = ''
    response.setEncoding('utf8')
    for await (const piece of brokenOff(response, endpoint)) {
      rest += piece
      if (rest.length > MAX_ANSWER_BYTES) throw new EtcdError('MALFORMED', 'a line of the watch is too long')
      const lines = rest.split('\n')
      rest = lines.pop() ?? ''
      for (const line of lines) if (line !== '') this.#watched(line, news)
    }
    throw new EtcdError('UNREACHABLE', `${endpoint} has ended the watch`)
  }

  /** The next question goes to another member. */
  turn(): void {
    this.#index++
  }

  close(): void {
    this.#agent.destroy()
    this.#plainAgent.destroy()
  }

  #watched(line: string, news: (news: WatchNews) => void): void {
    const { result, error } = parseAs(watchLine, line)
    if (result === undefined || error !== undefined)
      throw new EtcdError('UNAVAILABLE', `watch: ${error?.message ?? 'no result'}`)
    this.#checkCluster(result.header.cluster)
    if (result.compact_revision > 0) throw new CompactedError()
    if (result.canceled) throw new EtcdError('DENIED', `watch: ${result.cancel_reason}`)
    if (result.events.length === 0) return
    news({ events: result.events.map(({ type, kv }) => ({ ...kv, isGone: type === 'DELETE' })) })
  }

  /** Asks one member after the other, each once. */
  async #ask<T extends z.ZodType<z.output<typeof headed>>>(path: string, body: unknown, form: T): Promise<z.output<T>> {
    const known = this.#revision
    let failure: unknown
    for (let attempt = 0; attempt < this.#options.endpoints.length; attempt++) {
      const index = this.#index
      try {
        const answer = parseAs(form, await this.#askOne(this.#endpoint(), path, body))
        this.#check(answer.header, known)
        return answer
      } catch (error) {
        failure = error
        const isElsewhereToo = error instanceof EtcdError && (error.code === 'DENIED' || error.code === 'GONE_BACK')
        if (isElsewhereToo) throw error
        if (this.#index === index) this.turn()
      }
    }
    throw failure
  }

  /** With a token where there is a login; once more with a new one if it has run out. */
  async #askOne(endpoint: string, path: string, body: unknown): Promise<string> {
    const { login } = this.#options.material
    const signal = AbortSignal.timeout(this.#options.attemptMs)
    if (login !== undefined && this.#token === undefined) await this.#authenticate(endpoint, signal)
    const first = await this.#post(endpoint, path, body, signal)
    if (first.status === 200) return first.text
    const { code, message } = parseAs(errorAnswer, first.text)
    // "auth: revision in header is old" is an INVALID_ARGUMENT: users or roles have changed since.
    const isStale = code === Grpc.UNAUTHENTICATED || (code === Grpc.INVALID_ARGUMENT && message.includes('revision'))
    if (login === undefined || !isStale) throw this.#errorOf(first.status, first.text)
    await this.#authenticate(endpoint, signal)
    const second = await this.#post(endpoint, path, body, signal)
    if (second.status !== 200) throw this.#errorOf(second.status, second.text)
    return second.text
  }

  async #authenticate(endpoint: string, signal: AbortSignal): Promise<void> {
    const { login } = this.#options.material
    if (login === undefined) return
    this.#token = undefined
    const answer = await this.#post(
      endpoint,
      '/v3/auth/authenticate',
      { name: login.user, password: login.password },
      signal,
    )
    if (answer.status !== 200) throw this.#errorOf(answer.status, answer.text)
    this.#token = parseAs(authAnswer, answer.text).token
  }

  async #post(
    endpoint: string,
    path: string,
    body: unknown,
    signal: AbortSignal,
  ): Promise<{ status: number; text: string }> {
    const response = await this.#send(endpoint, path, body, signal)
    return { status: response.statusCode ?? 0, text: await readAll(response) }
  }

  async #send(endpoint: string, path: string, body: unknown, signal: AbortSignal): Promise<IncomingMessage> {
    const text = JSON.stringify(body)
    const token = this.#token === undefined ? {} : { authorization: this.#token }
    const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text), ...token }
    const options = { method: 'POST', headers, signal }
    const url = new URL(path, endpoint)
    const asking: ClientRequest =
      url.protocol === 'https:'
        ? requestTls(url, { ...options, agent: this.#agent })
        : request(url, { ...options, agent: this.#plainAgent })
    return await new Promise((resolve, reject) => {
      const failed = (cause: Error): void => reject(unreachable(endpoint, cause))
      asking.on('response', response => {
        response.on('error', () => {})
        resolve(response)
      })
      asking.on('error', failed)
      asking.end(text)
    })
  }

  #endpoint(): string {
    const { endpoints } = this.#options
    return endpoints[this.#index % endpoints.length] ?? ''
  }

  #check({ cluster, revision }: z.output<typeof headed>['header'], known: number): void {
    this.#checkCluster(cluster)
    if (revision < known) {
      throw new EtcdError(
        'GONE_BACK',
        `etcd is at revision ${revision}, and was at ${known}: it was restored from a backup?`,
      )
    }
    this.#revision = Math.max(this.#revision, revision)
  }

  #checkCluster(cluster: string | undefined): void {
    if (cluster === undefined) throw new EtcdError('MALFORMED', 'an answer without the id of its cluster')
    this.#cluster ??= cluster
    if (cluster === this.#cluster) return
    const message = `${this.#endpoint()} is of the cluster ${cluster}, and leases are kept in ${this.#cluster}`
    throw new EtcdError('ANOTHER_CLUSTER', message)
  }

  #errorOf(status: number | undefined, text: string): EtcdError {
    const { code, message } = parseAs(errorAnswer, text)
    const denied: readonly number[] = [
      Grpc.INVALID_ARGUMENT,
      Grpc.PERMISSION_DENIED,
      Grpc.FAILED_PRECONDITION,
      Grpc.UNAUTHENTICATED,
    ]
    return new EtcdError(denied.includes(code) ? 'DENIED' : 'UNAVAILABLE', `${status ?? 0}: ${message}`)
  }
}

/** What a watch asked for is there no more. */
export class CompactedError extends Error {
  override readonly name = 'CompactedError'
}

function unreachable(endpoint: string, cause: Error): EtcdError {
  return new EtcdError(
    'UNREACHABLE',
    `${endpoint}: ${cause.name === 'AbortError' || cause.name === 'TimeoutError' ? 'no answer in time' : cause.message}`,
    { cause },
  )
}

async function* brokenOff(response: IncomingMessage, endpoint: string): AsyncGenerator<string> {
  try {
    for await (const piece of response) yield String(piece)
  } catch (error) {
    throw unreachable(endpoint, error instanceof Error ? error : new Error(String(error)))
  }
}

async function readAll(response: IncomingMessage): Promise<string> {
  const pieces: Buffer[] = []
  let length = 0
  try {
    for await (const piece of response) {
      const bytes = Buffer.from(piece)
      length += bytes.length
      if (length > MAX_ANSWER_BYTES) throw new EtcdError('MALFORMED', 'an answer is too long')
      pieces.push(bytes)
    }
  } catch (error) {
    if (error instanceof EtcdError) throw error
    throw new EtcdError('UNREACHABLE', 'an answer has broken off', { cause: error })
  }
  return Buffer.concat(pieces).toString('utf8')
}

function parseAs<T extends z.ZodType>(form: T, text: string): z.output<T> {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (cause) {
    throw new EtcdError('MALFORMED', 'an answer that is no JSON: is this etcd?', { cause })
  }
  const parsed = form.safeParse(value)
  if (!parsed.success) throw new EtcdError('MALFORMED', 'an answer that etcd does not give', { cause: parsed.error })
  return parsed.data
}
