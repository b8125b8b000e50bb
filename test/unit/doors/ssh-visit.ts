/**
 * An SSH door in this process, and ssh2's client at the other end of it, with its inner parts in the hands of a test: for
 * what no well-behaved client does.
 */
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import ssh2, { type ConnectConfig } from 'ssh2'
import { onTestFinished } from 'vitest'
import type { Cidr } from '../../../src/config/cidr.ts'
import type { Visitor } from '../../../src/doors/door.ts'
import { openSshDoor } from '../../../src/doors/ssh.ts'
import { loadHostKeys } from '../../../src/doors/ssh-host-keys.ts'
import { mintHostKey } from '../../../src/pki/ssh-host-key.ts'
import { waitFor } from '../../support/wait.ts'

const USER = mintHostKey('user')
export const STRANGER = mintHostKey('stranger')

/** A line of the log. */
export interface Line {
  readonly level: string
  readonly message: string
  readonly [fact: string]: unknown
}

/** An open door, and who has come. */
export interface TestDoor {
  readonly port: number
  readonly visitors: Visitor[]
  readonly log: Line[]
  /** Places taken now. */
  places(): number
  /** What was held against addresses. */
  readonly charges: readonly string[]
  logged(message: string): Promise<Line>
  close(): Promise<void>
}

/** What a test may say of a door. */
interface TestDoorOptions {
  readonly loginMs?: number
  /** Places that the gateway has. */
  readonly room?: number
  readonly line?: string
  readonly proxyProtocol?: readonly Cidr[]
}

/** Opens a door for the key of `login`. */
export async function openDoor(options: TestDoorOptions = {}): Promise<TestDoor> {
  const dir = mkdtempSync(join(tmpdir(), 'nbdg-door-'))
  const [hostKey, authorizedKeys] = [join(dir, 'host'), join(dir, 'authorized_keys')]
  writeFileSync(hostKey, mintHostKey('host').privateText, { mode: 0o600 })
  writeFileSync(authorizedKeys, `${options.line ?? ''} ${USER.publicText}`.trim())
  const log: Line[] = []
  const visitors: Visitor[] = []
  let places = 0
  const charges: string[] = []
  const write =
    (level: string) =>
    (facts: object, message: string): void =>
      void log.push({ level, message, ...facts })
  const door = await openSshDoor(
    {
      host: '127.0.0.1',
      port: 0,
      keys: loadHostKeys([hostKey]).keys,
      authorizedKeys,
      loginMs: options.loginMs ?? 10_000,
      headerMs: 10_000,
      proxyProtocol: options.proxyProtocol,
      log: { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') },
    },
    {
      admit: () => {
        if (places >= (options.room ?? 100)) return 'sessions'
        places++
        return undefined
      },
      known: () => {},
      left: () => void places--,
      charge: (address, offence) => void charges.push(`${address} ${offence}`),
      vanishedMs: 30_000,
      turnedAway: (peer, reason, facts) => write('warn')({ peer, reason, ...facts }, 'turned away'),
      enter: visitor => void visitors.push(visitor),
      failed: error => write('error')({ err: error }, 'door failed'),
    },
  )
  onTestFinished(async () => {
    await door.close()
    for (const { stream } of visitors) stream.destroy()
    rmSync(dir, { recursive: true })
  })
  return {
    port: Number(door.address.split(':').pop()),
    visitors,
    log,
    places: () => places,
    charges,
    logged: async message => {
      const find = (): Line | undefined => log.find(line => line.message === message)
      await waitFor(`the log line ${message}`, () => find() !== undefined, { describe: () => JSON.stringify(log) })
      return find() ?? { level: '', message: '' }
    },
    close: () => door.close(),
  }
}

/** ssh2's client, connected or not, and what it hides. */
export interface TestClient {
  readonly client: InstanceType<typeof ssh2.Client>
  readonly socket: Socket
  /** ssh2's Protocol: each call is a message. */
  readonly protocol: ClientProtocol
  /** Resolves when the connection is closed. */
  readonly closed: Promise<unknown>
}

export interface ClientProtocol {
  readonly _handlers: Record<string, (...args: unknown[]) => void>
  directTcpip(channel: number, window: number, packetBytes: number, options: object): void
  channelData(channel: number, data: Buffer): void
  channelWindowAdjust(channel: number, bytes: number): void
  tcpipForward(host: string, port: number, wantReply: boolean): void
  rekey(): void
  ping(): void
}

/** Begins to connect; what comes `before` SSH leaves in one piece with SSH's first bytes. */
export function begin(door: TestDoor, config: ConnectConfig = {}, before = ''): TestClient {
  const client = new ssh2.Client()
  client.on('error', () => {})
  const socket = connect({ host: '127.0.0.1', port: door.port })
  socket.on('error', () => {})
  // Not once(): a reset on the way would make it reject.
  const closed = new Promise(resolve => socket.once('close', resolve))
  socket.cork()
  socket.write(before)
  socket.once('connect', () => setImmediate(() => socket.uncork()))
  onTestFinished(() => {
    client.destroy()
    socket.destroy()
  })
  client.connect({ sock: socket, username: 'bob', privateKey: USER.privateText, ...config })
  return { client, socket, protocol: Reflect.get(client, '_protocol'), closed }
}

/** Connects and logs in. */
export async function login(door: TestDoor): Promise<TestClient> {
  const begun = begin(door)
  await once(begun.client, 'ready')
  return begun
}

/** What a channel is at the client: the numbers that both ends have for it. */
export interface TestChannel {
  readonly mine: number
  readonly theirs: number
}

/** Opens `-L …:nbd:10809` with a window and a packet size of our choice. */
export async function openChannel(
  { client, protocol }: TestClient,
  { window = 2 ** 21, packetBytes = 2 ** 15, port = 10809 } = {},
): Promise<TestChannel> {
  return await new Promise((resolve, reject) => {
    const opened = (error: Error | undefined, channel: unknown): void => {
      if (error !== undefined) {
        reject(error)
        return
      }
      const id = (end: string): number => Reflect.get(Reflect.get(Object(channel), end), 'id')
      resolve({ mine: id('incoming'), theirs: id('outgoing') })
    }
    const mine: number = Reflect.get(client, '_chanMgr').add(Object.assign(opened, { type: 'direct-tcpip' }))
    const where = { srcIP: '127.0.0.1', srcPort: 1, dstIP: 'nbd', dstPort: port }
    protocol.directTcpip(mine, window, packetBytes, where)
  })
}
