/** The server's rules of metadata contexts and of BLOCK_STATUS. */
import { expect } from 'vitest'
import { COMMAND, ERROR, OPTION, REPLY, u32 } from '../interop/hostile-support.ts'
import { DISK_BYTES, type Ground } from './ground.ts'
import { type Entry, notApplicable, proven } from './rows.ts'
import { ask, askAll, CHUNK, contextsOf, errorOf, FLAG, metaQuery, NOTHING, typesOf } from './wire.ts'

const { LIST_META_CONTEXT: LIST, SET_META_CONTEXT: SET } = OPTION
const TWO = [
  [70, 'base:allocation'],
  [9, 'x-lab:colour'],
] as const

/** A client that has structured replies. */
async function structured({ greeted }: Ground) {
  const peer = await greeted()
  expect(await peer.ask(OPTION.STRUCTURED_REPLY)).toBe(REPLY.ACK)
  return peer
}

/** A client in an export of nbdkit with its base:allocation. */
async function mapping(ground: Ground, name = 'disk') {
  const peer = await structured(ground)
  const contexts = contextsOf(await askAll(peer, SET, metaQuery(name, 'base:allocation')))
  await peer.enter(name)
  return { peer, contexts }
}

export const serverContexts: readonly Entry[] = [
  proven(
    'refuses SET_META_CONTEXT before structured replies with ERR_INVALID',
    {
      'Option types': [
        'have been negotiated first. If a client attempts to do so, a server SHOULD send `NBD_REP_ERR_INVALID`',
      ],
      'Metadata querying': [
        'this implies that in order to use metadata querying, structured replies MUST be negotiated first',
      ],
    },
    async ({ greeted }) => {
      const peer = await greeted()
      expect(typesOf(await askAll(peer, SET, metaQuery('disk', 'base:allocation')))).toEqual([REPLY.INVALID])
      expect(await peer.ask(OPTION.STRUCTURED_REPLY)).toBe(REPLY.ACK)
      expect(await peer.ask(SET, metaQuery('disk', 'base:allocation'))).toBe(REPLY.ACK)
    },
  ),
  proven(
    'refuses queries that read beyond their option with ERR_INVALID',
    {
      'Option types': [
        'reading beyond the original length given in the option header), the server MUST fail the request with `NBD_REP_ERR_INVALID`',
      ],
    },
    async ground => {
      const peer = await structured(ground)
      const good = metaQuery('disk', 'base:allocation')
      const lies = [
        good.subarray(0, good.length - 1),
        Buffer.concat([good, Buffer.alloc(1)]),
        Buffer.concat([u32(4), Buffer.from('disk'), u32(2), u32(1), Buffer.from('a')]),
        Buffer.concat([u32(4), Buffer.from('disk'), u32(0xffff_ffff)]),
        Buffer.concat([u32(0xffff_ffff), Buffer.from('disk')]),
        metaQuery('disk', 'no colon'),
        metaQuery('disk', 'base:a\0b'),
        NOTHING,
      ]
      for (const type of [LIST, SET]) {
        for (const lie of lies) expect(typesOf(await askAll(peer, type, lie))).toEqual([REPLY.INVALID])
      }
      expect(await peer.ask(SET, good)).toBe(REPLY.ACK)
    },
  ),
  proven(
    'lists all contexts for no query, those of a wildcard and those of a name, with id 0 and names of the form',
    {
      'The `base:` metadata namespace': ['and MUST support this as a wildcard during `NBD_OPT_LIST_META_CONTEXT`'],
      'Option types': [
        'The server MUST reply with a list of zero or more `NBD_REP_META_CONTEXT` replies, followed by either a final `NBD_REP_ACK`',
        'If zero queries are sent, then the server MUST return all the metadata contexts that are available to the client',
        'In this case, the server SHOULD NOT fail with `NBD_REP_ERR_TOO_BIG`',
        'If one or more queries are sent, then the server MUST return those metadata contexts that are available',
        'However each namespace returned MUST begin with the relevant namespace, followed by a colon',
        'The metadata context ID in these replies is reserved and SHOULD be set to zero',
      ],
      'Option reply types': ['This is not required to be a human-readable string, but it MUST be valid UTF-8 data'],
      'Metadata querying': [
        'The name MUST consist of a namespace, followed by a colon, followed by a leaf-name',
        'MUST follow the restrictions for strings as laid out earlier in this document',
      ],
    },
    async ground => {
      const peer = await structured(ground)
      for (const queries of [[], ['base:'], ['base:allocation'], ['x-none:', 'base:']]) {
        const replies = await askAll(peer, LIST, metaQuery('disk', ...queries))
        expect(contextsOf(replies), queries.join()).toEqual([{ id: 0, name: 'base:allocation' }])
        expect(replies.at(-1)).toEqual({ type: REPLY.ACK, data: NOTHING })
      }
      ground.fake.use({ contexts: TWO })
      const listed = contextsOf(await askAll(peer, LIST, metaQuery('fake')))
      expect(listed).toEqual(TWO.map(([, name]) => ({ id: 0, name })))
    },
  ),
  proven(
    'selects nothing for a wildcard, an unknown leaf, an unknown namespace and no query, without an error',
    {
      'The `base:` metadata namespace': [
        'the server MUST ignore this form during `NBD_OPT_SET_META_CONTEXT`',
        'requested by the client is not recognized, the server MUST ignore it rather than report an error',
      ],
      'Option types': [
        'the server MUST ignore query strings belonging to an unknown namespace',
        'If none of the query strings find any metadata contexts, the server MUST send a single reply of type `NBD_REP_ACK`',
        'If zero queries are sent, the server MUST select no metadata contexts',
      ],
      'Metadata querying': ['but SHOULD NOT select any contexts during `NBD_OPT_SET_META_CONTEXT`'],
    },
    async ground => {
      const peer = await structured(ground)
      for (const queries of [[], ['base:'], ['base:nothing'], ['x-none:thing'], ['x-none:', 'base:'], ['qemu:']]) {
        expect(typesOf(await askAll(peer, SET, metaQuery('disk', ...queries))), queries.join()).toEqual([REPLY.ACK])
      }
      for (const query of ['x-none:', 'base:nothing']) {
        expect(typesOf(await askAll(peer, LIST, metaQuery('disk', query)))).toEqual([REPLY.ACK])
      }
    },
  ),
  proven(
    'answers SET_META_CONTEXT with each selected context under an id of its own, and ACK',
    {
      'Option types': [
        'one for each selected metadata context, each with a unique metadata context ID, followed by `NBD_REP_ACK`',
      ],
    },
    async ground => {
      ground.fake.use({ contexts: TWO })
      const peer = await structured(ground)
      const replies = await askAll(peer, SET, metaQuery('fake', ...TWO.map(([, name]) => name)))
      const found = contextsOf(replies)
      expect(found.map(({ name }) => name).toSorted()).toEqual(TWO.map(([, name]) => name).toSorted())
      expect(new Set(found.map(({ id }) => id)).size).toBe(2)
      expect(typesOf(replies)).toEqual([REPLY.META_CONTEXT, REPLY.META_CONTEXT, REPLY.ACK])
    },
  ),
  proven(
    'answers BLOCK_STATUS with EINVAL where no context is selected for this export, the last time',
    {
      'Metadata querying': [
        'Servers SHOULD reply with `NBD_EINVAL` to clients sending `NBD_CMD_BLOCK_STATUS` without selecting',
      ],
    },
    async ground => {
      const good = metaQuery('disk', 'base:allocation')
      const ways: readonly (readonly Buffer[])[] = [
        [],
        [metaQuery('disk')],
        [good, metaQuery('disk')],
        [good, metaQuery('disk', 'no colon')],
        [metaQuery('lifted', 'base:allocation')],
        [good, metaQuery('lifted', 'base:allocation')],
      ]
      for (const queries of ways) {
        const peer = await structured(ground)
        for (const data of queries) await askAll(peer, SET, data)
        await peer.enter('disk')
        expect(await errorOf(peer, { type: COMMAND.BLOCK_STATUS, length: 512 })).toBe(ERROR.EINVAL)
        expect(await errorOf(peer, { type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
      }
    },
  ),
  proven(
    'answers BLOCK_STATUS with a chunk for each selected context, of extents that begin where the client asked',
    {
      'Metadata querying': [
        'On success, the server MUST respond with one structured reply chunk of type `NBD_REPLY_TYPE_BLOCK_STATUS`',
        'The reply to the `NBD_CMD_BLOCK_STATUS` request MUST be sent as a structured reply',
        'MUST be representable within the flags field as defined for `NBD_REPLY_TYPE_BLOCK_STATUS`',
      ],
      'Structured reply types': [
        'This reply represents a series of consecutive block descriptors',
        '*length* MUST be 4 + (a positive integer multiple of 8)',
        'A successful block status request MUST have exactly one status chunk per negotiated metadata context ID',
        'applies (unsigned, MUST be nonzero)',
        'extents (if any) MUST be less than the requested length',
      ],
      'Request types': [
        'For a successful return, the server MUST use a structured reply, containing exactly one chunk of type',
        'However the server MUST return at least one status descriptor',
      ],
      '`base:allocation` metadata context': ['Servers SHOULD set it to all-zero'],
    },
    async ground => {
      const { peer, contexts } = await mapping(ground)
      await errorOf(peer, { type: COMMAND.WRITE, offset: 65536n, length: 4096 }, Buffer.alloc(4096, 1))
      const range = { offset: 0n, length: 1 << 20 }
      const chunks = await ask(peer, { type: COMMAND.BLOCK_STATUS, ...range })
      const status = chunks.filter(({ type }) => type === CHUNK.STATUS)
      expect(chunks.every(({ kind }) => kind === 'chunk')).toBe(true)
      expect(status.map(({ payload }) => payload.readUInt32BE(0))).toEqual(contexts.map(({ id }) => id))
      for (const { payload } of status) {
        expect(payload.length).toBeGreaterThanOrEqual(12)
        expect((payload.length - 4) % 8).toBe(0)
        const lengths = words(payload).filter((_, at) => at % 2 === 0)
        expect(lengths).not.toContain(0)
        expect(lengths.slice(0, -1).reduce((sum, each) => sum + each, 0)).toBeLessThan(range.length)
        for (const flags of words(payload).filter((_, at) => at % 2 === 1)) expect(flags & ~3).toBe(0)
      }
    },
  ),
  proven(
    'sends one extent for REQ_ONE, not longer than the request',
    {
      'Command flags': ['the server MUST NOT send metadata on more than one extent in the reply'],
      'Structured reply types': [
        'then every reply chunk MUST contain exactly one descriptor, and that descriptor MUST NOT exceed',
      ],
      'Request types': ['where the *length* of the descriptor MUST NOT be greater than the *length* of the request'],
    },
    async ground => {
      const { peer } = await mapping(ground)
      await errorOf(peer, { type: COMMAND.WRITE, offset: 65536n, length: 4096 }, Buffer.alloc(4096, 1))
      for (const length of [512, 4096, 1 << 20]) {
        const range = { flags: FLAG.REQ_ONE, offset: 0n, length }
        const chunks = await ask(peer, { type: COMMAND.BLOCK_STATUS, ...range })
        for (const { payload } of chunks.filter(({ type }) => type === CHUNK.STATUS)) {
          expect(payload).toHaveLength(12)
          expect(payload.readUInt32BE(4)).toBeLessThanOrEqual(length)
        }
        expect(chunks.filter(({ type }) => type === CHUNK.STATUS)).toHaveLength(1)
      }
    },
  ),
  proven(
    'refuses BLOCK_STATUS beyond the export, of nothing and with flags of others by an error chunk with EINVAL',
    {
      'Request types': [
        'The server SHOULD return `NBD_EINVAL` if it receives a `NBD_CMD_BLOCK_STATUS` request including one or more sectors beyond',
        'The client SHOULD NOT request a status length of 0; the behavior of a server on such a request is unspecified although the server SHOULD NOT disconnect',
        'If an error occurs, the server SHOULD set the appropriate error code in the error field of an error chunk',
      ],
    },
    async ground => {
      const { peer } = await mapping(ground)
      for (const parts of [
        { offset: BigInt(DISK_BYTES) - 512n, length: 1024 },
        { offset: 1n << 63n, length: 512 },
        { offset: 0n, length: 0 },
        { offset: 0n, length: 512, flags: FLAG.DF },
      ]) {
        const [reply, ...more] = await ask(peer, { type: COMMAND.BLOCK_STATUS, ...parts })
        expect(reply).toMatchObject({ kind: 'chunk', type: CHUNK.ERROR, error: ERROR.EINVAL })
        expect(more).toEqual([])
      }
      expect(await errorOf(peer, { type: COMMAND.BLOCK_STATUS, length: 512 })).toBe(ERROR.NONE)
    },
  ),
  proven(
    'ends the session rather than pass on more than 2^20 extents in a chunk',
    {
      'Structured reply types': ['Servers SHOULD NOT send more than 2^20 extents in a single reply chunk'],
      'Request types': ['a server SHOULD NOT send more than 2^20 status descriptors in a single chunk'],
      'Size constraints': [
        'although it MUST honor any additional payload constraints documented for a particular command',
      ],
    },
    async ground => {
      const head = Buffer.from('668e33ef0001000500000000000000000080000c00000007', 'hex')
      ground.fake.use({
        answer: ({ type, cookie }) => {
          if (type !== COMMAND.BLOCK_STATUS) return undefined
          head.writeBigUInt64BE(cookie, 8)
          return head
        },
      })
      const { peer } = await mapping(ground, 'fake')
      await expect(errorOf(peer, { type: COMMAND.BLOCK_STATUS, length: 1 << 20 })).rejects.toThrow(
        'the connection ended',
      )
    },
  ),
  notApplicable(
    'extents are those of the upstream, passed on as they are: what it knows of its storage, nobody else does',
    {
      '`base:allocation` metadata context': [
        'then writing to an extent which has `NBD_STATE_HOLE` clear MUST NOT fail with `NBD_ENOSPC`',
      ],
      'Request types': [
        'The server SHOULD use different *status* values between consecutive descriptors where feasible',
        'The server SHOULD use descriptor lengths that are an integer multiple of 512 bytes where possible',
        'The server SHOULD use descriptor lengths that are an integer multiple of any advertised minimum block size',
        'although the server SHOULD return additional status values when they can be easily detected',
      ],
    },
  ),
  notApplicable('nbdgate defines no context and no query of its own', {
    'Metadata querying': [
      'Namespaces MUST be consist of one of the following',
      'This SHOULD NOT be used by metadata contexts that are expected to be widely used',
      'Server implementations SHOULD ensure the syntax for query strings they support and semantics',
    ],
  }),
]

/** Lengths and flags of a status chunk's extents, in turn. */
function words(payload: Buffer): readonly number[] {
  return Array.from({ length: (payload.length - 4) / 4 }, (_, at) => payload.readUInt32BE(4 + 4 * at))
}
