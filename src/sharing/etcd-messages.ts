/**
 * etcd's JSON gateway, as much of it as is used: 64-bit numbers are text, keys and values base64, and what is zero, false
 * or empty is left out (etcd.io, "API reference", and the gateway's notes). 3.4, 3.5 and 3.6 speak it alike.
 */
import * as z from 'zod'

const number = z.string().regex(/^\d+$/).transform(Number).prefault('0')
const bytes = z.base64().transform(text => Buffer.from(text, 'base64').toString('utf8'))

/** `cluster`: 64 bits as text. `revision` stays exact below 2^53, which no cluster reaches. */
const header = z
  .looseObject({ cluster_id: z.string().optional(), revision: number })
  .transform(({ cluster_id: cluster, revision }) => ({ cluster, revision }))

const keyValue = z
  .looseObject({ key: bytes, value: bytes.prefault(''), mod_revision: number, create_revision: number })
  .transform(each => ({
    key: each.key,
    value: each.value,
    modRevision: each.mod_revision,
    createRevision: each.create_revision,
  }))

/** A key, its value, and the revisions at which it was made and last written. */
export type KeyValue = z.output<typeof keyValue>

/** Every answer has it. */
export const headed = z.looseObject({ header })

/** Answer to /v3/kv/range. */
export const rangeAnswer = z.looseObject({
  header,
  kvs: z.array(keyValue).prefault([]),
  more: z.boolean().prefault(false),
})

const found = z.looseObject({ kvs: z.array(keyValue).prefault([]) })

/** Answer to /v3/kv/txn. */
export const txnAnswer = z.looseObject({
  header,
  succeeded: z.boolean().prefault(false),
  responses: z.array(z.looseObject({ response_range: found.optional() })).prefault([]),
})

/** Answer to /v3/auth/authenticate. */
export const authAnswer = z.looseObject({ token: z.string().min(1) })

/** What went wrong, as gRPC says it. */
export const errorAnswer = z.looseObject({
  code: z.number().prefault(0),
  message: z.string().prefault(''),
  error: z.unknown(),
})

/** One line of /v3/watch. */
export const watchLine = z.looseObject({
  result: z
    .looseObject({
      header,
      created: z.boolean().prefault(false),
      canceled: z.boolean().prefault(false),
      cancel_reason: z.string().prefault(''),
      compact_revision: number,
      events: z.array(z.looseObject({ type: z.string().prefault('PUT'), kv: keyValue })).prefault([]),
    })
    .optional(),
  error: z.looseObject({ message: z.string().prefault('') }).optional(),
})

/** Text as the gateway wants it. */
export const base64 = (text: string): string => Buffer.from(text).toString('base64')

/** The end of a range of all keys that begin with `prefix`, which is ASCII. */
export const endOf = (prefix: string): string =>
  prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1)

/** A condition of a transaction. */
export type Compare = Readonly<Record<string, string>>

/** The key was made at this revision; 0: there is none. */
export const createdAt = (key: string, revision: number): Compare => ({
  key: base64(key),
  target: 'CREATE',
  result: 'EQUAL',
  create_revision: String(revision),
})

/** The key was last written at this revision; 0: there is none. */
export const writtenAt = (key: string, revision: number): Compare => ({
  key: base64(key),
  target: 'MOD',
  result: 'EQUAL',
  mod_revision: String(revision),
})

/** No key of those that begin with `prefix` was written after this revision. */
export const unwrittenSince = (prefix: string, revision: number): Compare => ({
  key: base64(prefix),
  range_end: base64(endOf(prefix)),
  target: 'MOD',
  result: 'LESS',
  mod_revision: String(revision + 1),
})

/** A step of a transaction. */
export type Step = Readonly<Record<string, unknown>>

export const put = (key: string, value: string): Step => ({ request_put: { key: base64(key), value: base64(value) } })
export const remove = (key: string): Step => ({ request_delete_range: { key: base64(key) } })
const rangeOf = (prefix: string) => ({ key: base64(prefix), range_end: base64(endOf(prefix)) })
/** Of all keys that begin with `prefix`. */
export const removeAll = (prefix: string): Step => ({ request_delete_range: rangeOf(prefix) })
export const revisionsOf = (prefix: string): Step => ({ request_range: { ...rangeOf(prefix), keys_only: true } })
