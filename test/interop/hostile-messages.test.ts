/**
 * Every message of the client too short, too long or wrong, garbage at every stage, and peers that keep us waiting: a
 * clear refusal or a close, and clientGround() checks after each test that everybody else is served as before.
 */
import { describe, expect, it } from 'vitest'
import { seededBytes } from '../support/disk.ts'
import { requires } from '../support/requires.ts'
import { WAIT_BOUND_MS } from '../support/wait.ts'
import { clientGround, credentials, DISK_BYTES, DOOR } from './hostile-ground.ts'
import {
  COMMAND,
  ERROR,
  infoData,
  OPTION,
  option,
  Peer,
  REFUSAL_BOUND_MS,
  REPLY,
  request,
  u16,
  u32,
} from './hostile-support.ts'

const MIB = 1024 * 1024
const NOTHING = Buffer.alloc(0)
const GARBAGE = seededBytes(7, 64 * 1024)
/** `limits.negotiation` of clientGround(). */
const NEGOTIATION_MS = 1_000

requires('nbdkit')('malformed messages', () => {
  const ground = clientGround()
  const { port } = ground

  describe('client flags', () => {
    for (const flags of [4, 0x8000_0003, 0xffff_ffff]) {
      it(`ends the connection for the unknown flags 0x${flags.toString(16)}`, async () => {
        const peer = await Peer.connect(port(DOOR.TCP))
        await peer.read(18)
        peer.send(u32(flags))
        expect(await peer.closed()).toEqual(NOTHING)
        await ground.tells({ code: 'BAD_FLAGS', peer: peer.name })
      })
    }

    it('ends the connection for any option but EXPORT_NAME without fixed newstyle', async () => {
      const peer = await Peer.connect(port(DOOR.TCP))
      await peer.read(18)
      peer.send(u32(0), option(OPTION.LIST))
      expect(await peer.closed()).toEqual(NOTHING)
    })
  })

  describe('options', () => {
    it('ends the connection for an option without IHAVEOPT', async () => {
      const peer = await Peer.greeted(port(DOOR.TCP))
      const bytes = option(OPTION.LIST)
      bytes[7] = 0
      peer.send(bytes)
      expect(await peer.closed()).toEqual(NOTHING)
      await ground.tells({ code: 'BAD_MAGIC', peer: peer.name })
    })

    for (const [what, bytes] of [
      ['head', option(OPTION.GO).subarray(0, 15)],
      ['data', option(OPTION.GO, infoData('disk'), 100)],
    ] as const) {
      it(`ends the connection when the client ends amid the ${what} of an option`, async () => {
        const peer = await Peer.greeted(port(DOOR.TCP))
        peer.send(bytes)
        peer.finish()
        expect(await peer.closed()).toEqual(NOTHING)
        await ground.tells({ code: 'TRUNCATED', peer: peer.name })
      })
    }

    for (const name of ['LIST', 'STARTTLS', 'STRUCTURED_REPLY'] as const) {
      it(`refuses ${name} with data, short and long, and goes on in step`, async () => {
        const peer = await Peer.greeted(port(DOOR.SELECTIVE))
        expect(await peer.ask(OPTION[name], Buffer.alloc(1))).toBe(REPLY.INVALID)
        expect(await peer.ask(OPTION[name], GARBAGE)).toBe(REPLY.INVALID)
        expect(await peer.ask(OPTION[name], Buffer.alloc(MIB))).toBe(REPLY.TOO_BIG)
        expect(await peer.ask(OPTION.ABORT)).toBe(REPLY.ACK)
      })
    }

    it('refuses unknown options with their data drained, and ends for one that nobody would drain', async () => {
      const peer = await Peer.greeted(port(DOOR.TCP))
      for (const type of [0, 4, 12, 0x7654_321, 0xffff_ffff]) {
        expect(await peer.ask(type, Buffer.alloc(1000, 'IHAVEOPT'))).toBe(REPLY.UNSUP)
      }
      // EXTENDED_HEADERS carries no data.
      expect(await peer.ask(11, Buffer.alloc(1000, 'IHAVEOPT'))).toBe(0x8000_0003)
      peer.send(option(99, NOTHING, MIB + 1))
      expect(await peer.closed()).toEqual(NOTHING)
    })

    const whole = infoData('disk', [3])
    const malformed: readonly (readonly [string, Buffer])[] = [
      ...Array.from(
        { length: whole.length },
        (_, length) => [`${length} bytes of it`, whole.subarray(0, length)] as const,
      ),
      ['one byte more than it needs', Buffer.concat([whole, Buffer.alloc(1)])],
      ['a name that is one byte too long', infoData('disk', [], 5)],
      ['fewer informations than announced', Buffer.concat([u32(4), Buffer.from('disk'), u16(0xffff), u16(3)])],
      ['a NUL in the name', infoData('di\0k')],
      ['a name that is no UTF-8', infoData(Buffer.from([0xff, 0xfe, 0xc0, 0x80]))],
      ['64 KiB of garbage', GARBAGE],
    ]
    for (const type of [OPTION.INFO, OPTION.GO]) {
      it(`refuses ${type === OPTION.GO ? 'GO' : 'INFO'} that is short, long or wrong, and goes on in step`, async () => {
        for (const [what, data] of malformed) {
          const peer = await Peer.greeted(port(DOOR.TCP))
          expect(await peer.ask(type, data), what).toBe(REPLY.INVALID)
          expect(await peer.ask(type, whole), `a good one after ${what}`).toBe(REPLY.ACK)
          peer.destroy()
        }
      })
    }

    for (const [what, name] of [
      ['longer than a string may be', Buffer.alloc(65_537, 'x')],
      ['with a NUL', Buffer.from('disk\0')],
      ['that is no UTF-8', Buffer.from([0xff])],
    ] as const) {
      it(`ends the connection for EXPORT_NAME ${what}`, async () => {
        const peer = await Peer.greeted(port(DOOR.TCP))
        peer.send(option(OPTION.EXPORT_NAME, name))
        expect(await peer.closed()).toEqual(NOTHING)
      })
    }

    it('answers 32 options, the 33rd ends the connection', async () => {
      const peer = await Peer.greeted(port(DOOR.TCP))
      for (let count = 0; count < 32; count++) expect(await peer.ask(99)).toBe(REPLY.UNSUP)
      peer.send(option(99))
      expect(await peer.closed()).toEqual(NOTHING)
      await ground.tells({ code: 'TOO_MANY_OPTIONS', peer: peer.name })
    })

    it('answers 32 of 5,000 options that are sent at once without reading', async () => {
      const peer = await Peer.greeted(port(DOOR.TCP))
      peer.send(...Array.from({ length: 5_000 }, () => option(OPTION.INFO, infoData('nowhere'))))
      await peer.closed()
      await ground.tells({ code: 'TOO_MANY_OPTIONS', peer: peer.name })
    })
  })

  describe('garbage', () => {
    for (const [what, door] of Object.entries(DOOR)) {
      it(`ends the connection for 64 KiB of it in place of client flags, door ${what}`, async () => {
        const peer = await Peer.connect(port(door))
        peer.send(GARBAGE)
        expect((await peer.closed()).length).toBeLessThanOrEqual(18)
      })

      it(`ends the connection for 64 KiB of it in place of an option, door ${what}`, async () => {
        const peer = await Peer.greeted(port(door))
        peer.send(GARBAGE)
        expect(await peer.closed()).toEqual(NOTHING)
      })
    }

    it('ends the connection for 64 KiB of it in place of a ClientHello', async () => {
      const peer = await Peer.greeted(port(DOOR.FORCED))
      expect(await peer.ask(OPTION.STARTTLS)).toBe(REPLY.ACK)
      peer.send(GARBAGE)
      await peer.closed()
      await ground.tells({ msg: 'tls failed', reason: 'handshake failed', peer: peer.name })
    })

    it('ends the connection for 64 KiB of it below TLS', async () => {
      const peer = await Peer.greeted(port(DOOR.FORCED))
      await peer.startTls(credentials(ground.pki))
      await peer.enter('disk')
      peer.raw.write(GARBAGE)
      await peer.closed()
    })

    it('ends the connection for 64 KiB of it inside TLS', async () => {
      const peer = await Peer.greeted(port(DOOR.FORCED))
      await peer.startTls(credentials(ground.pki))
      peer.send(GARBAGE)
      expect(await peer.closed()).toEqual(NOTHING)
      await ground.tells({ code: 'BAD_MAGIC', peer: peer.name })
    })

    it('ends the session for 64 KiB of it in the transmission phase', async () => {
      const peer = await Peer.inside(port(DOOR.TCP), 'disk')
      peer.send(GARBAGE)
      expect(await peer.closed()).toEqual(NOTHING)
      await ground.tells({ why: 'client broke the protocol', peer: peer.name })
    })
  })

  describe('requests', () => {
    for (const magic of [0, 0x2560_9514, 0x1256_0953, 0x21e4_1c71, 0x6744_6698]) {
      it(`ends the session for the request magic 0x${magic.toString(16)}`, async () => {
        const peer = await Peer.inside(port(DOOR.TCP), 'disk')
        peer.send(request({ magic, type: COMMAND.READ, length: 512 }))
        expect(await peer.closed()).toEqual(NOTHING)
        await ground.tells({ why: 'client broke the protocol', peer: peer.name })
      })
    }

    it('refuses unknown commands and flags with EINVAL', async () => {
      const peer = await Peer.inside(port(DOOR.TCP), 'disk')
      for (const type of [8, 9, 99, 0xffff]) expect(await peer.try({ type, length: 512 })).toBe(ERROR.EINVAL)
      for (const flags of [0x8000, 4, 0xfffe]) {
        expect(await peer.try({ type: COMMAND.READ, flags, length: 512 })).toBe(ERROR.EINVAL)
      }
      expect(await peer.try({ type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
    })

    it('refuses ranges beyond the end of the export, with no wrap at 64 bits', async () => {
      const peer = await Peer.inside(port(DOOR.TCP), 'disk')
      const size = BigInt(DISK_BYTES)
      for (const offset of [size, size - 511n, 1n << 63n, (1n << 64n) - 512n, (1n << 64n) - 1n]) {
        const range = { offset, length: 512 }
        expect(await peer.try({ type: COMMAND.READ, ...range })).toBe(ERROR.EINVAL)
        expect(await peer.try({ type: COMMAND.WRITE, ...range }, Buffer.alloc(512))).toBe(ERROR.ENOSPC)
        expect(await peer.try({ type: COMMAND.ZEROES, ...range })).toBe(ERROR.ENOSPC)
        expect(await peer.try({ type: COMMAND.TRIM, ...range })).toBe(ERROR.EINVAL)
      }
      expect(await peer.try({ type: COMMAND.READ, offset: size - 512n, length: 512 })).toBe(ERROR.NONE)
    })

    it('drains a WRITE of 33 MiB with EINVAL, and one on a read-only export with EPERM', async () => {
      const writer = await Peer.inside(port(DOOR.TCP), 'disk')
      const long = { type: COMMAND.WRITE, length: 33 * MIB }
      expect(await writer.try(long, Buffer.alloc(33 * MIB))).toBe(ERROR.EINVAL)
      expect(await writer.try({ type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
      const reader = await Peer.inside(port(DOOR.TCP), 'read-only')
      expect(await reader.try(long, Buffer.alloc(33 * MIB))).toBe(ERROR.EPERM)
      expect(await reader.try({ type: COMMAND.TRIM, length: 512 })).toBe(ERROR.EPERM)
      expect(await reader.try({ type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
    })

    for (const name of ['disk', 'read-only']) {
      it(`ends the session for a WRITE longer than 128 MiB on ${name}`, async () => {
        const peer = await Peer.inside(port(DOOR.TCP), name)
        peer.send(request({ type: COMMAND.WRITE, length: 128 * MIB + 1 }))
        expect(await peer.closed()).toEqual(NOTHING)
        await ground.tells({ why: 'client broke the protocol', peer: peer.name })
      })
    }

    it('ends the session when a request is followed by bytes that it should not have', async () => {
      const peer = await Peer.inside(port(DOOR.TCP), 'disk')
      peer.send(request({ type: COMMAND.TRIM, length: 512 }), Buffer.alloc(512))
      await peer.closed()
      await ground.tells({ why: 'client broke the protocol', peer: peer.name })
    })

    it('ends the session when the client ends amid the head of a request', async () => {
      const peer = await Peer.inside(port(DOOR.TCP), 'disk')
      peer.send(request({ type: COMMAND.READ, length: 512 }).subarray(0, 27))
      peer.finish()
      expect(await peer.closed()).toEqual(NOTHING)
      await ground.tells({ why: 'client gone', peer: peer.name })
    })
  })

  describe('silence', () => {
    const stages: readonly (readonly [string, () => Promise<Peer>, Buffer])[] = [
      ['before the client flags', () => Peer.connect(port(DOOR.TCP)), u32(3)],
      ['before an option', () => Peer.greeted(port(DOOR.TCP)), option(OPTION.LIST)],
      ['amid an option', () => halfAnOption(), Buffer.alloc(100)],
      ['before the ClientHello', () => beforeClientHello(), Buffer.from('16030100c8010000c40303', 'hex')],
      ['inside TLS', () => insideTls(), option(OPTION.LIST)],
    ]
    for (const [stage, reach, bytes] of stages) {
      it(`closes on a client that says nothing ${stage} once its time is over`, async () => {
        const peer = await reach()
        await peer.closed(NEGOTIATION_MS + REFUSAL_BOUND_MS)
        await ground.tells({ level: 'warn', peer: peer.name })
      })

      it(`closes on a client that sends a byte every 300 ms ${stage} once its time is over`, async () => {
        const peer = await reach()
        let at = 0
        const drip = setInterval(() => peer.send(bytes.subarray(at, ++at)), 300)
        await peer.closed(NEGOTIATION_MS + REFUSAL_BOUND_MS).finally(() => clearInterval(drip))
        expect(at, 'the client was closed before it was done').toBeLessThanOrEqual(bytes.length)
        await ground.tells({ level: 'warn', peer: peer.name })
      })
    }

    it('leaves a client that is silent in the transmission phase alone', async () => {
      const silent = await Peer.inside(port(DOOR.TCP), 'disk')
      const witness = await Peer.connect(port(DOOR.TCP))
      await witness.closed(WAIT_BOUND_MS)
      expect(await silent.try({ type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
    })

    async function halfAnOption(): Promise<Peer> {
      const peer = await Peer.greeted(port(DOOR.TCP))
      peer.send(option(99, Buffer.alloc(9), 1000))
      return peer
    }
    async function beforeClientHello(): Promise<Peer> {
      const peer = await Peer.greeted(port(DOOR.FORCED))
      expect(await peer.ask(OPTION.STARTTLS)).toBe(REPLY.ACK)
      return peer
    }
    async function insideTls(): Promise<Peer> {
      const peer = await Peer.greeted(port(DOOR.FORCED))
      await peer.startTls(credentials(ground.pki))
      return peer
    }
  })
})
