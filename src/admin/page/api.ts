import type { GatewayEvent } from '../../observe/event-feed.ts'
import { EventParser } from './event-parser.ts'

const TOKEN_KEY = 'nbdgate-token'
const UNAUTHORIZED = 401
const NOT_FOUND = 404

/** How long the gateway may take to answer. */
const ANSWER_MS = 10_000

/** A token is wanted, or it is the wrong one. */
export class TokenNeeded extends Error {}

/** The gateway that has served this page, asked with the token that was given for this tab. */
export class Api {
  get hasToken(): boolean {
    return sessionStorage.getItem(TOKEN_KEY) !== null
  }

  /** Keeps a token until the tab is closed; undefined forgets it. */
  use(token: string | undefined): void {
    if (token === undefined) sessionStorage.removeItem(TOKEN_KEY)
    else sessionStorage.setItem(TOKEN_KEY, token)
  }

  /** What is there; undefined: nothing of that name. The page and the gateway are of one build. @throws TokenNeeded, Error */
  async get<Answer>(path: string): Promise<Answer | undefined> {
    const response = await this.#ask('GET', path, AbortSignal.timeout(ANSWER_MS))
    if (response.status === NOT_FOUND) return undefined
    if (!response.ok) throw new Error(`${path}: ${response.status}`)
    return await response.json()
  }

  /** Takes something away; whether it was there. @throws TokenNeeded, Error */
  async remove(path: string): Promise<boolean> {
    return (await this.#ask('DELETE', path, AbortSignal.timeout(ANSWER_MS))).ok
  }

  /** Tells of events until the stream ends, or `signal` ends it; `opened` when it has begun. @throws TokenNeeded, Error */
  async listen(signal: AbortSignal, opened: () => void, tell: (event: GatewayEvent) => void): Promise<void> {
    // Not EventSource: it can not send the token.
    const response = await this.#ask('GET', '/v1/events', signal)
    opened()
    // There are as many listeners as there may be: what is kept has to do.
    if (!response.ok || response.body === null) return
    const parser = new EventParser()
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader()
    for (;;) {
      const { done, value } = await reader.read()
      if (done) return
      for (const event of parser.feed(value)) tell(event)
    }
  }

  async #ask(method: string, path: string, signal: AbortSignal): Promise<Response> {
    const token = sessionStorage.getItem(TOKEN_KEY)
    const headers: HeadersInit = token === null ? {} : { Authorization: `Bearer ${token}` }
    const response = await fetch(path, { method, headers, signal, cache: 'no-store' })
    if (response.status === UNAUTHORIZED) throw new TokenNeeded(token === null ? 'a token is needed' : 'a wrong token')
    return response
  }
}
