import { MAX_STRING_BYTES } from './constants.ts'
import { ProtocolError } from './errors.ts'
import { decodeString } from './strings.ts'

/** What a client asks for with LIST_META_CONTEXT or SET_META_CONTEXT. */
export interface MetaQuery {
  /** Name of the export. */
  readonly name: string
  readonly queries: readonly string[]
}

/** A metadata context, and the id that its status chunks bear. */
export interface MetaContext {
  readonly id: number
  readonly name: string
}

/**
 * Data of LIST_META_CONTEXT and SET_META_CONTEXT (proto.md, "NBD_OPT_LIST_META_CONTEXT").
 *
 *     0  u32  length of name
 *     4       name
 *     …  u32  number of queries
 *     …       each: u32 length, query
 */
export function decodeMetaQuery(data: Buffer): MetaQuery | 'invalid' | 'too big' {
  const name = stringAt(data, 0)
  if (typeof name === 'string') return name
  if (data.length - name.end < 4) return 'invalid'
  const count = data.readUInt32BE(name.end)
  // Each has its length at least: a claim of more than can be there is not counted to.
  if (count > data.length / 4) return 'invalid'
  const queries: string[] = []
  let at = name.end + 4
  for (let n = 0; n < count; n++) {
    const query = stringAt(data, at)
    if (typeof query === 'string') return query
    // proto.md: a query MUST start with a namespace and a colon.
    if (query.text.indexOf(':') < 1) return 'invalid'
    queries.push(query.text)
    at = query.end
  }
  return at === data.length ? { name: name.text, queries } : 'invalid'
}

/** The same message from the client's side. */
export function encodeMetaQuery({ name, queries }: MetaQuery): Buffer {
  const parts = [encodeText(name), u32(queries.length), ...queries.map(encodeText)]
  return Buffer.concat(parts)
}

/**
 * Data of NBD_REP_META_CONTEXT.
 *
 *     0  u32  id
 *     4       name, to the end
 */
export function encodeMetaContext({ id, name }: MetaContext): Buffer {
  return Buffer.concat([u32(id), Buffer.from(name)])
}

/** A metadata context as a client reads it. @throws ProtocolError BAD_LENGTH, BAD_REPLY */
export function decodeMetaContext(data: Buffer): MetaContext {
  if (data.length < 4) throw new ProtocolError('BAD_LENGTH', `META_CONTEXT reply of ${data.length} bytes`)
  const name = decodeString(data.subarray(4))
  // proto.md, "Metadata querying": a namespace, which is not empty, and a colon.
  if (name === undefined || name.indexOf(':') < 1) throw new ProtocolError('BAD_REPLY', 'a context without a name')
  return { id: data.readUInt32BE(0), name }
}

function stringAt(data: Buffer, at: number): { readonly text: string; readonly end: number } | 'invalid' | 'too big' {
  if (data.length - at < 4) return 'invalid'
  const length = data.readUInt32BE(at)
  if (length > data.length - at - 4) return 'invalid'
  if (length > MAX_STRING_BYTES) return 'too big'
  const end = at + 4 + length
  const text = decodeString(data.subarray(at + 4, end))
  return text === undefined ? 'invalid' : { text, end }
}

function encodeText(text: string): Buffer {
  const bytes = Buffer.from(text)
  return Buffer.concat([u32(bytes.length), bytes])
}

function u32(value: number): Buffer {
  const bytes = Buffer.allocUnsafe(4)
  bytes.writeUInt32BE(value, 0)
  return bytes
}
