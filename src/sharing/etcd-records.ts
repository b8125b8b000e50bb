/**
 * What is kept in etcd, under one prefix:
 *
 *     g/GATEWAY           a gateway that lives; written again and again, which is its heartbeat
 *     f/GATEWAY           one that was given up: nothing that it held counts any more
 *     x/EXPORT/GATEWAY    who holds an export through it
 *     q/GATEWAY/ID        what another gateway wants of it; it deletes the key when that is done
 *
 * GATEWAY is a random name of one life of a gateway.
 */
import * as z from 'zod'

/** A gateway, as the others see it. */
const gatewayRecord = z.strictObject({
  version: z.literal(1),
  /** For people. */
  name: z.string(),
  ttlMs: z.int().min(1),
})
export type GatewayRecord = z.output<typeof gatewayRecord>

const holdRecord = z.strictObject({
  holder: z.string(),
  who: z.string(),
  peer: z.string(),
  mode: z.enum(['exclusive', 'readers-or-writer', 'single-writer', 'cluster', 'read-only']),
  access: z.enum(['read', 'write']),
  sinceMs: z.number(),
})
/** One holder of an export. */
export type HoldRecord = z.output<typeof holdRecord>

const holdsRecord = z.strictObject({
  version: z.literal(1),
  /** Of its gateway, for when nothing else is left of that. */
  ttlMs: z.int().min(1),
  name: z.string(),
  holds: z.array(holdRecord),
})
export type HoldsRecord = z.output<typeof holdsRecord>

const requestRecord = z.strictObject({
  version: z.literal(1),
  kind: z.enum(['settle', 'release']),
  export: z.string(),
  holder: z.string(),
})
/** `settle`: wait for the writes of a holder's sessions. `release`: end them. */
export type RequestRecord = z.output<typeof requestRecord>

/** What a key is about; `unknown` has no business under our prefix. */
export type KeyFacts =
  | { readonly kind: 'gateway' | 'fenced'; readonly gateway: string }
  | { readonly kind: 'holds'; readonly export: string; readonly gateway: string }
  | { readonly kind: 'request'; readonly gateway: string; readonly id: string }
  | { readonly kind: 'unknown' }

/** Keys and what they say. */
export class Keys {
  readonly prefix: string

  constructor(prefix: string) {
    this.prefix = prefix
  }

  gateway(gateway: string): string {
    return `${this.prefix}g/${gateway}`
  }

  fenced(gateway: string): string {
    return `${this.prefix}f/${gateway}`
  }

  holdsOf(name: string): string {
    return `${this.prefix}x/${encodeURIComponent(name)}/`
  }

  holds(name: string, gateway: string): string {
    return this.holdsOf(name) + gateway
  }

  requestsOf(gateway: string): string {
    return `${this.prefix}q/${gateway}/`
  }

  request(gateway: string, id: string): string {
    return this.requestsOf(gateway) + id
  }

  factsOf(key: string): KeyFacts {
    const [kind, first, second, ...more] = key.slice(this.prefix.length).split('/')
    if (!key.startsWith(this.prefix) || first === undefined || more.length > 0) return { kind: 'unknown' }
    if (kind === 'g' && second === undefined) return { kind: 'gateway', gateway: first }
    if (kind === 'f' && second === undefined) return { kind: 'fenced', gateway: first }
    if (second === undefined) return { kind: 'unknown' }
    if (kind === 'q') return { kind: 'request', gateway: first, id: second }
    const name = decoded(first)
    return kind === 'x' && name !== undefined ? { kind: 'holds', export: name, gateway: second } : { kind: 'unknown' }
  }
}

function decoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}

/** Reads a value; undefined if it is not one of ours. */
export const parseGateway = (text: string): GatewayRecord | undefined => parseAs(gatewayRecord, text)
export const parseHolds = (text: string): HoldsRecord | undefined => parseAs(holdsRecord, text)
export const parseRequest = (text: string): RequestRecord | undefined => parseAs(requestRecord, text)

function parseAs<T extends z.ZodType>(form: T, text: string): z.output<T> | undefined {
  try {
    return form.safeParse(JSON.parse(text)).data
  } catch {
    return undefined
  }
}
