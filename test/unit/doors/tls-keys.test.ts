// Pre-shared keys and certificates at one door, with clients that try to be taken for somebody whose name they know.
import { once } from 'node:events'
import { connect as connectTcp, createServer, type Socket } from 'node:net'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { describe, expect, it, onTestFinished } from 'vitest'
import type { Secured } from '../../../src/doors/door.ts'
import { TlsEnd, type TlsOptions } from '../../../src/doors/tls.ts'
import type { ServerMaterial } from '../../../src/pki/material.ts'
import { mintAuthority, mintClient, mintServer } from '../../../src/pki/mint.ts'
import { DuplexStream } from '../../../src/stream/duplex-stream.ts'

const AUTHORITY = mintAuthority()
const SERVER = mintServer(AUTHORITY, { names: ['localhost'] })
const BOB = mintClient(AUTHORITY, { name: 'bob' })
const KEY = Buffer.alloc(32, 7)
const MATERIAL: ServerMaterial = {
  cert: SERVER.certificatePem,
  key: SERVER.privateKeyPem,
  ca: AUTHORITY.certificatePem,
  psk: new Map([['alice', KEY]]),
  warnings: [],
}

/** One handshake over the loopback: what the door says of the visitor. Rejects with the door's TlsError. */
async function visit(
  client: ConnectionOptions,
  options: Partial<TlsOptions> = {},
  meet: (visitor: TLSSocket) => void = () => {},
): Promise<Secured> {
  const offer = new TlsEnd({
    mode: 'forced',
    material: MATERIAL,
    clientCert: 'required',
    handshakeMs: 5000,
    ...options,
  })
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('no port')
  const accepted = once(server, 'connection') as Promise<[Socket]>
  const tcp = connectTcp(address.port, '127.0.0.1').on('error', () => {})
  const visitor = connect({ socket: tcp, servername: 'localhost', ca: AUTHORITY.certificatePem, ...client })
  visitor.on('error', () => {})
  meet(visitor)
  onTestFinished(() => {
    visitor.destroy()
    server.close()
  })
  const [socket] = await accepted
  onTestFinished(() => void socket.destroy())
  return await offer.upgrade(new DuplexStream(socket))
}

/** A client with a key; `checkServerIdentity` since a server with a key shows no certificate. */
function withKey(name: string, psk: Buffer, more: ConnectionOptions = {}): ConnectionOptions {
  return { pskCallback: () => ({ psk, identity: name }), checkServerIdentity: () => undefined, ...more }
}

const TLS12: ConnectionOptions = { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-PSK-CHACHA20-POLY1305' }
/** A suite that the key does not go with: OpenSSL looks the key up, and then does without it. */
const EVADING: ConnectionOptions = { minVersion: 'TLSv1.3', ciphers: 'TLS_AES_256_GCM_SHA384' }
const CERTIFICATE: ConnectionOptions = { cert: BOB.certificatePem, key: BOB.privateKeyPem }

describe('a door with keys', () => {
  it('knows who holds a key, in TLS 1.3 and 1.2', async () => {
    const modern = await visit(withKey('alice', KEY))
    expect(modern).toMatchObject({ psk: 'alice', certificate: undefined, cipher: 'TLSv1.3 TLS_AES_128_GCM_SHA256' })
    const older = await visit(withKey('alice', KEY, TLS12))
    expect(older).toMatchObject({ psk: 'alice', cipher: 'TLSv1.2 TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256' })
  })

  it.each([
    ['TLS 1.3', {}],
    ['TLS 1.2', TLS12],
  ] as const)('refuses a wrong key and a name that is unknown alike, in %s', async (_version, more) => {
    for (const name of ['alice', 'carol']) {
      await expect(visit(withKey(name, Buffer.alloc(32), more))).rejects.toMatchObject({ reason: 'wrong key' })
    }
  })

  it('takes nobody for the name that was only offered', async () => {
    for (const psk of [KEY, Buffer.alloc(32)]) {
      await expect(visit(withKey('alice', psk, EVADING))).rejects.toMatchObject({ reason: 'no certificate' })
      const bob = await visit(withKey('alice', psk, { ...EVADING, ...CERTIFICATE }))
      expect([bob.psk, bob.certificate?.commonNames]).toEqual([undefined, ['bob']])
      const nobody = await visit(withKey('alice', psk, EVADING), { clientCert: 'optional' })
      expect([nobody.psk, nobody.certificate]).toEqual([undefined, undefined])
    }
  })

  it('still takes certificates, and needs one of the two', async () => {
    const bob = await visit(CERTIFICATE)
    expect([bob.psk, bob.certificate?.commonNames]).toEqual([undefined, ['bob']])
    await expect(visit({})).rejects.toMatchObject({ reason: 'no certificate' })
    await expect(visit({ maxVersion: 'TLSv1.2' })).rejects.toMatchObject({ reason: 'no certificate' })
  })

  it('resumes no session, which looks like a key in TLS 1.3', async () => {
    for (const version of ['TLSv1.3', 'TLSv1.2'] as const) {
      const sessions: Buffer[] = []
      const limits: ConnectionOptions = { minVersion: version, maxVersion: version }
      let secure: Promise<unknown> = Promise.resolve()
      const meet = (visitor: TLSSocket) => {
        visitor.on('session', session => sessions.push(session))
        secure = once(visitor, 'data')
      }
      const optional = { clientCert: 'optional' } as const
      const end = await visit(limits, optional, meet)
      // Behind the tickets, if there are any: then they have come.
      end.stream.write(Buffer.from('x'))
      await secure
      const [session] = sessions
      let reused: boolean | undefined
      const again = await visit({ ...limits, ...(session === undefined ? {} : { session }) }, optional, visitor => {
        secure = once(visitor, 'secureConnect').then(() => {
          reused = visitor.isSessionReused()
        })
      })
      await secure
      expect([again.psk, again.certificate, reused]).toEqual([undefined, undefined, false])
    }
  })

  it('without an authority takes keys alone', async () => {
    const { ca: _, ...keysOnly } = MATERIAL
    expect(await visit(withKey('alice', KEY), { material: keysOnly })).toMatchObject({ psk: 'alice' })
    for (const client of [CERTIFICATE, {}, withKey('alice', KEY, EVADING)]) {
      await expect(visit(client, { material: keysOnly })).rejects.toMatchObject({ reason: 'no certificate' })
    }
  })
})

it('a door without keys has no suite for them', async () => {
  const { psk: _, ...material } = MATERIAL
  await expect(visit(withKey('alice', KEY, TLS12), { material })).rejects.toMatchObject({ reason: 'handshake failed' })
})
