/**
 * Every hole that NBD servers have had, as a client would try it on the gateway: the answer is a clear refusal or a close
 * within two seconds, and clientGround() checks after each test that everybody else is served as before.
 */
import { once } from 'node:events'
import { readdirSync, readlinkSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { describe, expect, it } from 'vitest'
import { startGateway } from '../support/gateway.ts'
import { requires } from '../support/requires.ts'
import { waitFor } from '../support/wait.ts'
import { clientGround, credentials, DISK_BYTES, DOOR, SESSIONS } from './hostile-ground.ts'
import { COMMAND, ERROR, infoData, OPTION, option, Peer, REPLY, request, u32 } from './hostile-support.ts'

const KIB = 1024
const MIB = 1024 * KIB

/** Proves that the haggling goes on in step after a refusal. */
const stillHaggles = async (peer: Peer) => expect(await peer.ask(OPTION.ABORT)).toBe(REPLY.ACK)

requires('nbdkit')('a hostile client meets every known hole of NBD servers', () => {
  const ground = clientGround()
  const { port } = ground

  describe('requests', () => {
    for (const cve of ['CVE-2005-3534', 'CVE-2011-0530']) {
      it(`${cve}: a READ of 4 GiB less one is EINVAL, and the next request is answered`, async () => {
        const peer = await Peer.inside(port(DOOR.TCP), 'disk')
        for (const length of [0xffff_ffff, 0xffff_fff0, 0x8000_0000, 32 * MIB + 1]) {
          expect(await peer.try({ type: COMMAND.READ, length })).toBe(ERROR.EINVAL)
        }
        expect(await peer.try({ type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
      })

      it(`${cve}: a WRITE of 4 GiB less one ends the connection`, async () => {
        const peer = await Peer.inside(port(DOOR.TCP), 'disk')
        peer.send(request({ type: COMMAND.WRITE, length: 0xffff_ffff }), Buffer.alloc(64 * KIB))
        expect(await peer.closed()).toEqual(Buffer.alloc(0))
        await ground.tells({ why: 'client broke the protocol' })
      })
    }

    it('CVE-2020-10761: a request at the length limit is served, one byte more is refused with a short message', async () => {
      const peer = await Peer.inside(port(DOOR.TCP), 'disk')
      expect(await peer.try({ type: COMMAND.READ, length: 32 * MIB })).toBe(ERROR.NONE)
      expect(await peer.try({ type: COMMAND.READ, length: 32 * MIB + 1 })).toBe(ERROR.EINVAL)
    })

    it('CVE-2020-10761: the refusal of the longest name stays within the longest string', async () => {
      const peer = await Peer.greeted(port(DOOR.TCP))
      for (const name of ['%'.repeat(4096), '\u0001'.repeat(4096), '"'.repeat(4096), '€'.repeat(1365)]) {
        peer.send(option(OPTION.GO, infoData(name)))
        const { type, data } = await peer.answer(OPTION.GO)
        expect(type).toBe(REPLY.UNKNOWN)
        expect(data.length).toBeLessThanOrEqual(4096)
      }
      await stillHaggles(peer)
    })

    for (const [cve, length] of [
      ['CVE-2025-47711', 0xffff_ffff],
      ['CVE-2025-47712', 0xffff_fe00],
    ] as const) {
      it(`${cve}: BLOCK_STATUS of ${length} bytes that nobody negotiated is EINVAL`, async () => {
        const peer = await Peer.inside(port(DOOR.TCP), 'disk')
        expect(await peer.try({ type: COMMAND.BLOCK_STATUS, length })).toBe(ERROR.EINVAL)
        expect(await peer.try({ type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
      })
    }

    it('CVE-2019-14851: commands in a wrong order are refused or end that connection alone', async () => {
      const early = await Peer.greeted(port(DOOR.TCP))
      early.send(request({ type: COMMAND.READ, length: 512 }))
      await early.closed()
      const flagless = await Peer.connect(port(DOOR.TCP))
      await flagless.read(18)
      flagless.send(option(OPTION.GO, infoData('disk')))
      await flagless.closed()
      const late = await Peer.inside(port(DOOR.TCP), 'disk')
      late.send(option(OPTION.GO, infoData('disk', [3])))
      await late.closed()
      const twice = await Peer.greeted(port(DOOR.TCP))
      expect(await twice.ask(OPTION.STRUCTURED_REPLY)).toBe(REPLY.ACK)
      expect(await twice.ask(OPTION.STRUCTURED_REPLY)).toBe(REPLY.ACK)
      await stillHaggles(twice)
    })
  })

  describe('names', () => {
    for (const cve of ['CVE-2011-1925', 'CVE-2013-7441']) {
      it(`${cve}: an export that does not exist is UNKNOWN, or the end where no reply is possible`, async () => {
        const peer = await Peer.greeted(port(DOOR.TCP))
        expect(await peer.ask(OPTION.GO, infoData('nowhere'))).toBe(REPLY.UNKNOWN)
        expect(await peer.ask(OPTION.INFO, infoData('nowhere'))).toBe(REPLY.UNKNOWN)
        peer.send(option(OPTION.EXPORT_NAME, Buffer.from('nowhere')))
        expect(await peer.closed()).toEqual(Buffer.alloc(0))
      })
    }

    it('CVE-2022-26495: INFO and GO with a name of 4 GiB less one are INVALID', async () => {
      const peer = await Peer.greeted(port(DOOR.TCP))
      for (const type of [OPTION.INFO, OPTION.GO]) {
        expect(await peer.ask(type, infoData('disk', [], 0xffff_ffff))).toBe(REPLY.INVALID)
        expect(await peer.ask(type, u32(0xffff_ffff))).toBe(REPLY.INVALID)
      }
      await stillHaggles(peer)
    })

    it('CVE-2022-26495: EXPORT_NAME with a name of 4 GiB less one ends the connection', async () => {
      const peer = await Peer.greeted(port(DOOR.TCP))
      peer.send(option(OPTION.EXPORT_NAME, Buffer.from('disk'), 0xffff_ffff))
      expect(await peer.closed()).toEqual(Buffer.alloc(0))
    })

    it('CVE-2022-26496: INFO and GO that are longer than what they say is in them are refused', async () => {
      const peer = await Peer.greeted(port(DOOR.TCP))
      for (const type of [OPTION.INFO, OPTION.GO]) {
        expect(await peer.ask(type, Buffer.concat([infoData('disk'), Buffer.alloc(60 * KIB)]))).toBe(REPLY.INVALID)
        expect(await peer.ask(type, Buffer.concat([infoData('disk'), Buffer.alloc(512 * KIB)]))).toBe(REPLY.TOO_BIG)
      }
      await stillHaggles(peer)
    })

    it('CVE-2017-15118: names of 257 to 4096 bytes are unknown, longer ones too big', async () => {
      const peer = await Peer.greeted(port(DOOR.TCP))
      for (const type of [OPTION.INFO, OPTION.GO]) {
        for (const length of [257, 4096]) {
          expect(await peer.ask(type, infoData('x'.repeat(length)))).toBe(REPLY.UNKNOWN)
        }
        expect(await peer.ask(type, infoData('x'.repeat(4097)))).toBe(REPLY.TOO_BIG)
      }
      peer.send(option(OPTION.EXPORT_NAME, Buffer.alloc(4097, 'x')))
      expect(await peer.closed()).toEqual(Buffer.alloc(0))
    })

    it('CVE-2013-6410: an address that only begins like an admitted one is neither let in nor granted', async () => {
      expect(await (await Peer.connect(port(DOOR.ONE_ADDRESS), '127.0.0.12')).closed()).toEqual(Buffer.alloc(0))
      const stranger = await Peer.greeted(port(DOOR.TCP), '127.0.0.12')
      expect(await stranger.ask(OPTION.GO, infoData('mine'))).toBe(REPLY.UNKNOWN)
      await Peer.inside(port(DOOR.ONE_ADDRESS), 'mine')
    })

    it('nbdkit 1.40 notes: an export that is denied to all opens to nobody, whatever allows it', async () => {
      const peer = await Peer.greeted(port(DOOR.TCP))
      expect(await peer.ask(OPTION.GO, infoData('closed'))).toBe(REPLY.UNKNOWN)
      expect(await peer.ask(OPTION.STARTTLS)).toBe(REPLY.POLICY)
      const secured = await Peer.greeted(port(DOOR.FORCED))
      await secured.startTls(credentials(ground.pki))
      expect(await secured.ask(OPTION.GO, infoData('closed'))).toBe(REPLY.UNKNOWN)
    })
  })

  describe('haggling', () => {
    it('CVE-2017-15119: an option of 4 GiB ends the connection without being drained', async () => {
      for (const type of [OPTION.EXPORT_NAME, OPTION.ABORT, OPTION.LIST, OPTION.STARTTLS, OPTION.GO, 0x7654_321]) {
        const peer = await Peer.greeted(port(DOOR.FORCED))
        peer.send(option(type, Buffer.alloc(64 * KIB), 0xffff_ffff))
        await peer.closed()
        await ground.tells({ code: 'TOO_LONG', peer: peer.name })
      }
    })

    it('CVE-2017-7539: data where an option has to be ends the connection', async () => {
      const peer = await Peer.greeted(port(DOOR.TCP))
      peer.send(Buffer.alloc(64, 'NBDMAGIC'))
      await peer.closed()
      await ground.tells({ code: 'BAD_MAGIC' })
    })

    for (const cve of ['CVE-2017-9524', 'CVE-2013-7441']) {
      it(`${cve}: clients that leave before or amid the negotiation leave nothing behind`, async () => {
        for (const part of [Buffer.alloc(0), u32(3), Buffer.concat([u32(3), option(OPTION.GO, Buffer.alloc(9), 99)])]) {
          for (const leave of ['destroy', 'reset'] as const) {
            const socket = connect(port(DOOR.FORCED), '127.0.0.1')
            await once(socket, 'connect')
            const peer = new Peer(socket)
            peer.send(part)
            peer[leave]()
          }
        }
      })
    }

    it('CVE-2015-0847: many that vanish at once, with SIGHUP in between, do not stop the gateway', async () => {
      for (let round = 0; round < 3; round++) {
        const connecting = Array.from({ length: SESSIONS.perAddress }, () =>
          Peer.inside(port(DOOR.TCP), 'disk', `127.0.0.${20 + round}`),
        )
        const peers = await Promise.all(connecting)
        for (const peer of peers) peer.send(request({ type: COMMAND.READ, length: MIB }))
        ground.gateway.kill('SIGHUP')
        for (const peer of peers) peer.reset()
        await waitFor('all of them ended', () => ends() >= SESSIONS.perAddress * (round + 1))
      }
      function ends(): number {
        return ground.said().filter(line => line.msg === 'session ended').length
      }
    })

    it('CVE-2024-7409: a client that holds its socket open does not keep a gateway from its end', async () => {
      const yaml = JSON.stringify({
        version: 1,
        doors: [{ tcp: '127.0.0.1:0', from: ['127.0.0.0/8'] }],
        exports: [],
        limits: { negotiation: '1s' },
      })
      const doomed = await startGateway(ground.dir, 'doomed', yaml)
      const silent = await Peer.connect(doomed.port('tcp'))
      const haggling = await Peer.greeted(doomed.port('tcp'))
      haggling.send(option(OPTION.LIST, Buffer.alloc(1), 9))
      await silent.read(18)
      expect(await doomed.stop()).toBe(0)
    })

    it('CVE-2019-14850: nothing of the back end is touched before somebody is let in to it', async () => {
      const before = ground.dialled()
      const peer = await Peer.greeted(port(DOOR.SELECTIVE))
      await peer.ask(OPTION.LIST)
      await peer.ask(OPTION.GO, infoData('closed'))
      const unsecured = await Peer.greeted(port(DOOR.FORCED))
      expect(await unsecured.ask(OPTION.GO, infoData('guarded'))).toBe(REPLY.TLS_REQD)
      expect(await unsecured.ask(OPTION.INFO, infoData('guarded'))).toBe(REPLY.TLS_REQD)
      unsecured.send(option(OPTION.EXPORT_NAME, Buffer.from('guarded')))
      await unsecured.closed()
      expect(ground.dialled()).toBe(before)
      const secured = await Peer.greeted(port(DOOR.FORCED))
      await secured.startTls(credentials(ground.pki))
      expect(await secured.ask(OPTION.GO, infoData('guarded'))).toBe(REPLY.PLATFORM)
      expect(ground.dialled()).toBe(before + 1)
    })

    it('CVE-2013-0265: the gateway writes to no file in a folder that everybody can write to', async () => {
      await Peer.inside(port(DOOR.TCP), 'disk')
      const folder = `/proc/${ground.gateway.pid}/fd`
      const files = readdirSync(folder).flatMap(fd => {
        try {
          return [readlinkSync(`${folder}/${fd}`)]
        } catch {
          return [] // closed in the meantime
        }
      })
      expect(files.length).toBeGreaterThan(0)
      expect(files.filter(file => file.startsWith(tmpdir()) || file.startsWith('/tmp'))).toEqual([])
    })
  })

  describe('STARTTLS', () => {
    it('CVE-2021-3716: structured replies that were agreed in the clear are forgotten after STARTTLS', async () => {
      const peer = await Peer.greeted(port(DOOR.SELECTIVE))
      expect(await peer.ask(OPTION.STRUCTURED_REPLY)).toBe(REPLY.ACK)
      await peer.startTls(credentials(ground.pki))
      await peer.enter('disk')
      peer.send(request({ type: COMMAND.READ, cookie: 7n, offset: BigInt(DISK_BYTES / 2), length: 512 }))
      expect(await peer.simpleReply(512)).toEqual({ error: ERROR.NONE, cookie: 7n, data: Buffer.alloc(512) })
    })

    for (const [what, injected] of [
      ['STRUCTURED_REPLY', option(OPTION.STRUCTURED_REPLY)],
      ['GO', option(OPTION.GO, infoData('disk'))],
      ['a single byte', Buffer.alloc(1)],
    ] as const) {
      it(`CVE-2021-3716: ${what} in the same segment as STARTTLS ends the connection`, async () => {
        for (const door of [DOOR.FORCED, DOOR.SELECTIVE]) {
          const peer = await Peer.greeted(port(door))
          peer.send(option(OPTION.STARTTLS), injected)
          expect(await peer.closed()).toEqual(Buffer.alloc(0))
          await ground.tells({ code: 'UNEXPECTED_DATA', peer: peer.name })
        }
      })
    }

    it('nbdkit 1.34 notes: unknown options ahead of STARTTLS are refused, and change nothing after it', async () => {
      const peer = await Peer.greeted(port(DOOR.FORCED))
      for (let unknown = 0; unknown < 10; unknown++) {
        expect(await peer.ask(0x7000_0000 + unknown, Buffer.alloc(unknown))).toBe(REPLY.TLS_REQD)
      }
      await peer.startTls(credentials(ground.pki))
      await peer.enter('disk')
      expect(await peer.try({ type: COMMAND.READ, length: 512 })).toBe(ERROR.NONE)
    })
  })
})
