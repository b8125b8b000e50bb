/** The server's rules of TLS: the three modes, what is forgotten, what may be said before. */
import { expect } from 'vitest'
import { COMMAND, ERROR, infoData, OPTION, option, Peer, REPLY, request } from '../interop/hostile-support.ts'
import { DOOR } from './ground.ts'
import { type Entry, notApplicable, proven } from './rows.ts'
import { ask, askAll, closed, contextsOf, errorOf, metaQuery, NOTHING, typesOf } from './wire.ts'

/** Every option but EXPORT_NAME, ABORT and STARTTLS, with data that would do. */
const OTHERS: readonly (readonly [number, Buffer])[] = [
  [OPTION.LIST, NOTHING],
  [OPTION.INFO, infoData('disk')],
  [OPTION.GO, infoData('disk')],
  [OPTION.STRUCTURED_REPLY, NOTHING],
  [OPTION.LIST_META_CONTEXT, metaQuery('disk')],
  [OPTION.SET_META_CONTEXT, metaQuery('disk', 'base:allocation')],
  [11, NOTHING],
  [77, Buffer.alloc(3)],
]

export const serverTls: readonly Entry[] = [
  proven(
    'at a door without TLS refuses STARTTLS with ERR_POLICY, and never asks for TLS',
    {
      'Server-side requirements': ['The server MUST support one of these modes'],
      'NOTLS mode': [
        'If the server receives `NBD_OPT_STARTTLS` it MUST respond with `NBD_REP_ERR_POLICY`',
        'The server MUST NOT respond to any option request with `NBD_REP_ERR_TLS_REQD`',
      ],
      Baseline: ['- NOTLS mode'],
    },
    async ({ greeted }) => {
      const peer = await greeted(DOOR.PLAIN)
      expect(typesOf(await askAll(peer, OPTION.STARTTLS))).toEqual([REPLY.POLICY])
      for (const name of ['tls-only', 'nowhere']) {
        for (const type of [OPTION.INFO, OPTION.GO]) expect(await peer.ask(type, infoData(name))).toBe(REPLY.UNKNOWN)
      }
      for (const [type, data] of OTHERS.filter(([each]) => each !== OPTION.GO)) {
        expect(await peer.ask(type, data), `option ${type}`).not.toBe(REPLY.TLS_REQD)
      }
    },
  ),
  proven(
    'takes STARTTLS and speaks TLS from then on, and refuses it the second time',
    {
      'FORCEDTLS mode': [
        'If the server receives `NBD_OPT_STARTTLS` prior to negotiating TLS, it MUST reply with `NBD_REP_ACK`',
        'when TLS has already been negotiated, it it MUST reply with `NBD_REP_ERR_INVALID`',
        'the server MUST be prepared for a TLS handshake, and all further data MUST be sent and received over TLS',
      ],
      'SELECTIVETLS mode': [
        'it MUST reply with `NBD_REP_ACK` and initiate TLS as set out under',
        'when TLS has already been negotiated, it it MUST reply with `NBD_REP_ERR_INVALID`',
      ],
      'Option types': [
        'The server MUST either reply with `NBD_REP_ACK` after which point the connection is upgraded to TLS',
      ],
      'Maximum interoperability': ['TLS-encrypted communication, which may be required by some implementations'],
    },
    async ({ secured }) => {
      for (const door of [DOOR.FORCED, DOOR.SELECTIVE]) {
        const peer = await secured(door)
        expect(typesOf(await askAll(peer, OPTION.STARTTLS))).toEqual([REPLY.INVALID])
        await peer.enter('disk')
        expect(await errorOf(peer, { type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
      }
    },
  ),
  proven(
    'refuses STARTTLS with data with ERR_INVALID, and takes it without',
    { 'Option types': ['or an error reply explicitly permitted by this document (for example, `NBD_REP_ERR_INVALID`'] },
    async ({ greeted, alice }) => {
      for (const door of [DOOR.FORCED, DOOR.SELECTIVE]) {
        const peer = await greeted(door)
        expect(typesOf(await askAll(peer, OPTION.STARTTLS, Buffer.alloc(1)))).toEqual([REPLY.INVALID])
        await peer.startTls(alice)
      }
    },
  ),
  proven(
    'at a door that forces TLS answers every other option with ERR_TLS_REQD before it, and none after it',
    {
      'FORCEDTLS mode': [
        'If the server receives any other option, including `NBD_OPT_INFO` and unsupported options, it MUST reply with `NBD_REP_ERR_TLS_REQD`',
        'enter transmission mode via `NBD_OPT_GO` when TLS has not been initiated, it MUST error with `NBD_REP_ERR_TLS_REQD`',
        'The server MUST NOT send `NBD_REP_ERR_TLS_REQD` in reply to any option if TLS has already been initiated',
      ],
      'Option types': ['In this case, a FORCEDTLS server MUST NOT send `NBD_REP_INFO` replies'],
      'Server-side requirements': [
        'it MUST be consistent in its mode of operation across the lifespan of a single TCP connection',
      ],
      'Protocol downgrade attacks': ['SHOULD either used FORCEDTLS mode, or should force TLS on those exports'],
    },
    async ({ greeted, secured }) => {
      const peer = await greeted(DOOR.FORCED)
      for (const round of [1, 2]) {
        for (const [type, data] of OTHERS) {
          expect(typesOf(await askAll(peer, type, data)), `option ${type}, round ${round}`).toEqual([REPLY.TLS_REQD])
        }
      }
      const inner = await secured(DOOR.FORCED)
      for (const [type, data] of OTHERS.filter(([each]) => each !== OPTION.GO)) {
        expect(typesOf(await askAll(inner, type, data)), `option ${type}`).not.toContain(REPLY.TLS_REQD)
      }
      expect(await inner.ask(OPTION.GO, infoData('nowhere'))).toBe(REPLY.UNKNOWN)
    },
  ),
  proven(
    'at a door that forces TLS ends the session for EXPORT_NAME before it',
    {
      'FORCEDTLS mode': [
        'If the server receives a request to enter transmission mode via `NBD_OPT_EXPORT_NAME` when TLS has not been initiated, then as this request cannot error, it MUST terminate the session',
      ],
    },
    async ({ greeted }) => {
      const peer = await greeted(DOOR.FORCED)
      peer.send(option(OPTION.EXPORT_NAME, Buffer.from('disk')))
      expect(await closed(peer)).toEqual(NOTHING)
    },
  ),
  proven(
    'ends the session when the TLS handshake fails',
    {
      'FORCEDTLS mode': [
        'If the handshake is unsuccessful (for instance the client’s certificate does not match) the server MUST terminate the session'.replace(
          '’',
          "'",
        ),
      ],
    },
    async ({ greeted, mallory }) => {
      for (const door of [DOOR.FORCED, DOOR.SELECTIVE]) {
        // With TLS 1.3 a client believes that it is in before the server has judged its certificate.
        const peer = await greeted(door)
        await peer.startTls(mallory).catch(() => {})
        peer.send(option(OPTION.LIST))
        expect(await closed(peer)).toEqual(NOTHING)
        const garbage = await greeted(door)
        expect(await garbage.ask(OPTION.STARTTLS)).toBe(REPLY.ACK)
        garbage.send(option(OPTION.LIST))
        // An alert of TLS at most, and no reply of the protocol.
        expect((await closed(garbage)).includes(Buffer.from('0003e889045565a9', 'hex'))).toBe(false)
      }
    },
  ),
  proven(
    'at a selective door asks for TLS in reply to INFO and GO for exports that want it, or are not there, and else never',
    {
      'SELECTIVETLS mode': [
        'and MUST reply with `NBD_REP_ERR_TLS_REQD` if that export is TLS-only',
        'The server MUST NOT send `NBD_REP_ERR_TLS_REQD` in response to any option other than `NBD_OPT_INFO`, `NBD_OPT_GO` and',
        'and only in those cases in respect of a TLS-only or non-existent export',
        'The server MUST NOT send `NBD_REP_ERR_TLS_REQD` in reply to any option if TLS has already been negotiated',
      ],
      'Option types': [
        'A SELECTIVETLS server that chooses to hide unknown exports in this manner SHOULD NOT send `NBD_REP_INFO` replies for a TLS-only export',
      ],
    },
    async ({ greeted, secured }) => {
      const peer = await greeted(DOOR.SELECTIVE)
      for (const name of ['tls-only', 'nowhere']) {
        for (const type of [OPTION.INFO, OPTION.GO]) {
          expect(typesOf(await askAll(peer, type, infoData(name, [1, 2, 3])))).toEqual([REPLY.TLS_REQD])
        }
      }
      await askAll(peer, OPTION.STRUCTURED_REPLY)
      for (const name of ['tls-only', 'nowhere', 'disk']) {
        for (const type of [OPTION.LIST_META_CONTEXT, OPTION.SET_META_CONTEXT]) {
          const reply = await peer.ask(type, metaQuery(name, 'base:allocation'))
          expect(reply, name).toBe(name === 'disk' ? REPLY.ACK : REPLY.UNKNOWN)
        }
      }
      for (const [type, data] of OTHERS) {
        const fresh = await greeted(DOOR.SELECTIVE)
        expect(typesOf(await askAll(fresh, type, data)), `option ${type}`).not.toContain(REPLY.TLS_REQD)
      }
      const inner = await secured(DOOR.SELECTIVE)
      expect(await inner.ask(OPTION.INFO, infoData('nowhere'))).toBe(REPLY.UNKNOWN)
      expect(await inner.ask(OPTION.INFO, infoData('tls-only'))).toBe(REPLY.ACK)
    },
  ),
  proven(
    'at a selective door ends the session for EXPORT_NAME of an export that wants TLS',
    {
      'SELECTIVETLS mode': [
        'via `NBD_OPT_EXPORT_NAME` on a TLS-only export when TLS has not been initiated, then as this request cannot error, it MUST terminate the session',
      ],
    },
    async ({ greeted, secured }) => {
      const peer = await greeted(DOOR.SELECTIVE)
      peer.send(option(OPTION.EXPORT_NAME, Buffer.from('tls-only')))
      expect(await closed(peer)).toEqual(NOTHING)
      const inner = await secured(DOOR.SELECTIVE)
      inner.send(option(OPTION.EXPORT_NAME, Buffer.from('tls-only')))
      expect(await inner.read(10)).toHaveLength(10)
    },
  ),
  proven(
    'forgets structured replies and contexts at STARTTLS',
    { 'Option types': ['When this command succeeds, the server MUST NOT preserve any negotiation state'] },
    async ({ greeted, alice }) => {
      const peer = await greeted(DOOR.SELECTIVE)
      await askAll(peer, OPTION.STRUCTURED_REPLY)
      const set = await askAll(peer, OPTION.SET_META_CONTEXT, metaQuery('disk', 'base:allocation'))
      expect(contextsOf(set)).toHaveLength(1)
      await peer.startTls(alice)
      expect(await peer.ask(OPTION.SET_META_CONTEXT, metaQuery('disk', 'base:allocation'))).toBe(REPLY.INVALID)
      await peer.enter('disk')
      const [reply] = await ask(peer, { type: COMMAND.READ, length: 512 })
      expect(reply?.kind).toBe('simple')
      expect(await errorOf(peer, { type: COMMAND.BLOCK_STATUS, length: 512 })).toBe(ERROR.EINVAL)
    },
  ),
  proven(
    'knows no STARTTLS without fixed newstyle, and asks nobody for TLS there',
    {
      'Server-side requirements': [
        'The server MUST operate in NOTLS mode unless the server set flag `NBD_FLAG_FIXED_NEWSTYLE` and the client replied with',
      ],
    },
    async ({ port }) => {
      for (const door of Object.values(DOOR)) {
        const peer = await Peer.connect(port(door))
        await peer.read(18)
        peer.send(Buffer.alloc(4), option(OPTION.STARTTLS))
        expect(await closed(peer)).toEqual(NOTHING)
      }
    },
  ),
  proven(
    'ends TLS with its own word before the connection, after DISC and after ABORT',
    {
      'Terminating the transmission phase': [
        'The client sends `NBD_CMD_DISC` whereupon the server MUST close down the TLS session (if one is running)',
        'The client or the server drops the TCP session (in which case it SHOULD shut down the TLS session first)',
      ],
      'Request types': [
        'The server MUST handle all outstanding requests, shut down the TLS session (if one is running), and close the TCP session',
      ],
      'Termination of the session during option haggling': [
        'the party initiating the transaction SHOULD shutdown TLS first if it is running',
      ],
    },
    async ({ greeted, alice }) => {
      for (const leave of ['DISC', 'ABORT']) {
        const peer = await greeted(DOOR.FORCED)
        const records: Buffer[] = []
        // Where the type of an alert can be seen from outside.
        await peer.startTls({ ...alice, maxVersion: 'TLSv1.2' })
        peer.raw.on('data', (piece: Buffer) => records.push(piece))
        if (leave === 'ABORT') peer.send(option(OPTION.ABORT))
        else {
          await peer.enter('disk')
          peer.send(request({ type: COMMAND.READ, cookie: 5n, length: 4096 }), request({ type: COMMAND.DISC }))
          expect(await peer.simpleReply(4096)).toMatchObject({ error: ERROR.NONE, cookie: 5n })
        }
        await closed(peer)
        expect(lastRecord(Buffer.concat(records)), `after ${leave}`).toBe(21)
      }
    },
  ),
  proven(
    'speaks TLS 1.2 and 1.3, and nothing older',
    {
      'TLS versions': [
        'NBD implementations supporting TLS MUST support TLS version 1.2, SHOULD support any later versions',
        'NBD implementations MAY support older versions but SHOULD NOT do so by default',
        'Older versions SHOULD NOT be used where there is a risk of security problems',
      ],
    },
    async ({ greeted, alice }) => {
      const ciphers = 'DEFAULT@SECLEVEL=0'
      for (const version of ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const) {
        const peer = await greeted(DOOR.FORCED)
        const secure = peer.startTls({ ...alice, minVersion: version, maxVersion: version, ciphers })
        if (version < 'TLSv1.2') {
          await expect(secure, version).rejects.toThrow()
        } else {
          await secure
          await peer.enter('disk')
        }
      }
    },
  ),
  notApplicable('nbdgate offers no option that needs one of these before it is negotiated', {
    'Option types': [
      'A server that supports such extensions SHOULD NOT advertise those extensions until the client negotiates structured replies',
    ],
  }),
]

/** Type of the last whole record of TLS: 21 is an alert. */
function lastRecord(bytes: Buffer): number | undefined {
  let last: number | undefined
  for (let at = 0; at + 5 <= bytes.length; at += 5 + bytes.readUInt16BE(at + 3)) last = bytes[at]
  return last
}
