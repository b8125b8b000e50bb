/** The client's rules of TLS, by an upstream of `nbds://` that is the test's. */
import { expect } from 'vitest'
import { COMMAND, ERROR, infoData, OPTION, REPLY } from '../interop/hostile-support.ts'
import type { Plan } from './fake.ts'
import type { Ground } from './ground.ts'
import { type Entry, proven } from './rows.ts'
import { askAll, errorOf, optionReply } from './wire.ts'

/** A client with structured replies that goes for the export behind `nbds://`; how GO was answered. */
async function goes({ fake, greeted }: Ground, plan: Plan) {
  fake.use(plan)
  const peer = await greeted()
  await askAll(peer, OPTION.STRUCTURED_REPLY)
  return { peer, reply: await peer.ask(OPTION.GO, infoData('fake-tls')) }
}

export const clientTls: readonly Entry[] = [
  proven(
    'sends STARTTLS first and once, without data, and all else inside TLS, whatever mode the server is in',
    {
      'Client-side requirements': [
        'If the client supports TLS at all, it MUST be prepared to deal with servers operating in any of the above modes',
        'The client MUST NOT issue `NBD_OPT_STARTTLS` if TLS has already been initiated',
        'client receives `NBD_REP_ACK` in response, it MUST immediately upgrade the session to TLS',
        'SHOULD send `NBD_OPT_STARTTLS` as the first option',
      ],
      'Option types': [
        'The client wishes to initiate TLS. The client MUST NOT send any additional data with the option',
        'SHOULD defer all stateful option requests until after it determines whether encryption is available',
        'If the client requests `NBD_OPT_STARTTLS` after this option, it MUST renegotiate structured replies',
      ],
      'Protocol downgrade attacks': ['ensures that TLS is negotiated prior to sending or requesting sensitive data'],
    },
    async ground => {
      const forced = (type: number, _data: Buffer, visit: { readonly isSecure: boolean }) =>
        type === OPTION.STARTTLS || visit.isSecure ? undefined : optionReply(type, REPLY.TLS_REQD)
      for (const option of [undefined, forced]) {
        const { peer, reply } = await goes(ground, { tls: 'own', ...(option === undefined ? {} : { option }) })
        expect(reply).toBe(REPLY.ACK)
        const { options } = ground.fake.last
        expect(options.map(({ type, isSecure }) => [type, isSecure])).toEqual([
          [OPTION.STARTTLS, false],
          [OPTION.STRUCTURED_REPLY, true],
          [OPTION.INFO, true],
          [OPTION.GO, true],
        ])
        expect(options[0]?.data).toHaveLength(0)
        expect(await errorOf(peer, { type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
      }
    },
  ),
  proven(
    'ends the session with ABORT, and asks for nothing in the clear, when the server refuses STARTTLS',
    {
      'Client-side requirements': [
        'the client MUST either continue the session without TLS, or terminate the session',
        'a client which only wishes to use TLS SHOULD terminate the session if the `NBD_OPT_STARTTLS` replies with an error',
      ],
    },
    async ground => {
      for (const type of [REPLY.POLICY, REPLY.UNSUP, REPLY.INVALID]) {
        const option = (asked: number) => (asked === OPTION.STARTTLS ? optionReply(asked, type) : undefined)
        expect((await goes(ground, { option })).reply).toBe(REPLY.PLATFORM)
        expect((await ground.fake.ended()).end).toBe('ABORT')
        expect(ground.fake.last.options.map(each => each.type)).toEqual([OPTION.STARTTLS, OPTION.ABORT])
      }
    },
  ),
  proven(
    'sends no STARTTLS without fixed newstyle, and goes no further',
    {
      'Client-side requirements': [
        'The client MUST NOT issue `NBD_OPT_STARTTLS` unless the server set flag `NBD_FLAG_FIXED_NEWSTYLE`',
      ],
    },
    async ground => {
      for (const handshakeFlags of [0, 2]) {
        expect((await goes(ground, { handshakeFlags, tls: 'own' })).reply).toBe(REPLY.PLATFORM)
        await ground.fake.ended()
        expect(ground.fake.last.options).toEqual([])
      }
    },
  ),
  proven(
    'ends the session when the certificate of the server is not to be trusted',
    {
      'Client-side requirements': [
        'the client MUST terminate the session as by this stage it is too late to continue without TLS',
      ],
    },
    async ground => {
      expect((await goes(ground, { tls: 'rogue' })).reply).toBe(REPLY.PLATFORM)
      await ground.fake.ended()
      expect(ground.fake.last.options.map(({ type }) => type)).toEqual([OPTION.STARTTLS])
      expect(ground.fake.visits).toHaveLength(1)
    },
  ),
  proven(
    'gives up an export that wants TLS where its own address has none',
    {
      'Termination of the session during option haggling': [
        "In the client's case, if it wishes to do so it MUST use soft disconnect",
      ],
    },
    async ({ fake, greeted }) => {
      fake.use({ option: type => optionReply(type, REPLY.TLS_REQD) })
      expect(await (await greeted()).ask(OPTION.GO, infoData('fake'))).toBe(REPLY.PLATFORM)
      expect((await fake.ended()).end).toBe('ABORT')
    },
  ),
]
