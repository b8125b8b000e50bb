// How the gateway starts, does not start, and ends: what an operator reads, and what visitors see of it.
import { existsSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { writeServer } from '../../src/pki/files.ts'
import { mintServer } from '../../src/pki/mint.ts'
import { Cmd, Opt, Rep } from '../../src/protocol/constants.ts'
import { seededBytes, seededFile } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { MAIN } from '../support/gateway.ts'
import type { TestPki } from '../support/pki.ts'
import { run } from '../support/process.ts'
import { isConnectable } from '../support/wait.ts'
import { config, type Entry, tcpDoor, tlsDoor } from './configs.ts'
import { greeted, infoData, type RawClient } from './raw-client.ts'

const HOST = '127.0.0.1'
const DAY_MS = 86_400_000
const CONTENT = seededBytes(1, 512)

const test = base
  /** An export without a server behind it: this file is about what is in front. */
  .extend('disk', async ({ dir }): Promise<Entry> => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    return { name: 'disk', upstream: { file }, allow: [{ who: 'anyone', rights: 'write' }] }
  })
  /** Runs `nbdgate serve`, or another command, with a configuration that it is expected to refuse. */
  .extend('refused', async ({ dir }) => {
    return async (text: string, command: readonly string[] = ['serve', '--config']) => {
      const file = join(dir, 'refused.yaml')
      await writeFile(file, text)
      return { file, ...(await run([process.execPath, MAIN, ...command, file])) }
    }
  })

async function inside(port: number): Promise<RawClient> {
  const client = await greeted({ host: HOST, port })
  expect((await client.option(Opt.GO, infoData('disk'))).at(-1)?.type).toBe(Rep.ACK)
  return client
}

async function isServed(client: RawClient): Promise<boolean> {
  client.request(Cmd.READ, 1n, 0n, 512)
  return (await client.simpleReply(512)).data.equals(CONTENT)
}

/** A certificate of the tests' authority that ended a minute ago; that authority is hardly older. */
function expiredServer(pki: TestPki, dir: string) {
  const authority = {
    certificatePem: readFileSync(pki.ca.cert, 'utf8'),
    privateKeyPem: readFileSync(pki.ca.key, 'utf8'),
  }
  const minuteMs = 60_000
  const now = new Date(Date.now() - 2 * minuteMs)
  return writeServer(dir, mintServer(authority, { names: ['localhost'], now, days: minuteMs / DAY_MS }))
}

describe('key material that can not be used', () => {
  test.for([
    ['a key that is not there', 'nowhere.pem: there is no such file'],
    ['a key that is a folder', ': is a folder, not a file'],
    ['a key of another certificate', 'the key does not match the certificate'],
    ['a certificate that has expired', 'the certificate expired on 20'],
    ['an authority that is none', 'is not a CA certificate'],
  ] as const)(
    '%s: exit code 2, and a sentence that names the file',
    async ([which, sentence], { dir, pki, disk, refused }) => {
      const wrong: Record<typeof which, () => { readonly door: Entry; readonly file: string }> = {
        'a key that is not there': () => ({ door: { key: './nowhere.pem' }, file: join(dir, 'nowhere.pem') }),
        'a key that is a folder': () => ({ door: { key: '.' }, file: dir }),
        'a key of another certificate': () => ({ door: { key: pki.alice.key }, file: pki.alice.key }),
        'a certificate that has expired': () => {
          const { cert, key } = expiredServer(pki, dir)
          return { door: { cert, key }, file: cert }
        },
        'an authority that is none': () => ({ door: { 'client-ca': pki.bob.cert }, file: pki.bob.cert }),
      }
      const { door, file } = wrong[which]()
      const text = config([tlsDoor(pki, door)], [disk])
      for (const command of [['serve', '--config'], ['check']]) {
        const { code, stderr, stdout, ...told } = await refused(text, command)
        expect(code).toBe(2)
        expect(stderr).toMatch(new RegExp(`^${told.file}:\\d+:\\d+: `))
        expect(stderr).toContain(file)
        expect(stderr).toContain(sentence)
        expect(stderr.trim().split('\n')).toHaveLength(1)
        expect(stdout).toBe('')
      }
    },
  )
})

describe('a configuration that can not be used', () => {
  const TEXT = [
    'version: 1',
    'doors:',
    '  - { tcp: "127.0.0.1:0", from: [127.0.0.1/33] }',
    '  - { unix: ./nbd.sock, colour: red }',
    'exports:',
    '  - name: disk',
    '    upstream: ftp://host/',
    '    allow:',
    '      - { who: "cert:xx=alice", rights: all }',
  ].join('\n')

  test.for([[['check']], [['serve', '--config']]] as const)(
    '%s names every problem by line and column, opens nothing and exits with 2',
    async ([command], { dir, refused }) => {
      const { file, code, stdout, stderr } = await refused(TEXT, command)
      expect(code).toBe(2)
      expect(stdout).toBe('')
      const lines = stderr.trim().split('\n')
      const places = ['3:34', '4:25', '7:15', '9:16', '9:41']
      expect(lines.map(line => line.split(': ')[0])).toEqual(places.map(place => `${file}:${place}`))
      expect(stderr).toContain('unknown key `colour`')
      expect(existsSync(join(dir, 'nbd.sock'))).toBe(false)
    },
  )

  test('check says that a good one is fine, and opens nothing', async ({ dir, pki, disk, refused }) => {
    const doors = [tlsDoor(pki), { unix: './nbd.sock' }]
    const { code, stdout, stderr } = await refused(config(doors, [disk]), ['check'])
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toContain('fine: 2 doors, 1 export')
    expect(existsSync(join(dir, 'nbd.sock'))).toBe(false)
  })
})

describe('a door that can not be opened', () => {
  test('a port in use: exit code 1, a sentence that names it, and no other door stays open', async ({
    dir,
    disk,
    gateway,
    refused,
  }) => {
    const running = await gateway(config([tcpDoor()], [disk]))
    const taken = running.address('tcp')
    const { code, stderr } = await refused(config([{ unix: './nbd.sock' }, tcpDoor({ tcp: taken })], [disk]))
    expect(code).toBe(1)
    expect(stderr).toContain(`can not listen on ${taken}: the address is in use`)
    expect(existsSync(join(dir, 'nbd.sock'))).toBe(false)
    expect(await isServed(await inside(running.port('tcp')))).toBe(true)
  })

  test('a Unix socket that somebody listens on stays theirs', async ({ dir, disk, gateway, refused }) => {
    const path = join(dir, 'nbd.sock')
    const text = config([{ unix: path }], [disk])
    await gateway(text)
    const { code, stderr } = await refused(text)
    expect(code).toBe(1)
    expect(stderr).toContain(`can not listen on ${path}: the address is in use`)
    expect(await isConnectable({ path })).toBe(true)
  })

  test('a file that is no socket is not replaced', async ({ dir, disk, refused }) => {
    const path = join(dir, 'precious')
    await writeFile(path, 'mine')
    const { code, stderr } = await refused(config([{ unix: path }], [disk]))
    expect(code).toBe(1)
    expect(stderr).toContain(`can not listen on ${path}: there is a file that is no socket`)
    expect(readFileSync(path, 'utf8')).toBe('mine')
  })

  test('a Unix socket that a killed gateway left behind is replaced', async ({ dir, disk, gateway }) => {
    const path = join(dir, 'nbd.sock')
    const text = config([{ unix: path }], [disk])
    const killed = await gateway(text)
    killed.kill('SIGKILL')
    await killed.waitForExit()
    expect(existsSync(path)).toBe(true)
    await gateway(text)
    expect(await isConnectable({ path })).toBe(true)
  })
})

describe('signals', () => {
  test('SIGTERM lets sessions end by themselves, and nobody in', async ({ dir, disk, gateway }) => {
    const path = join(dir, 'nbd.sock')
    const running = await gateway(config([tcpDoor(), { unix: path }], [disk]))
    const address = { host: HOST, port: running.port('tcp') }
    const client = await inside(address.port)
    const undecided = await greeted(address)
    running.kill('SIGTERM')
    await running.waitForLog(({ msg }) => msg === 'draining')
    expect(await undecided.option(Opt.GO, infoData('disk'))).toMatchObject([{ type: Rep.ERR_SHUTDOWN }])
    undecided.reset()
    expect(await isConnectable(address)).toBe(false)
    expect(existsSync(path)).toBe(false)
    expect(await isServed(client)).toBe(true)
    await client.disconnect()
    expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
    const ended = running.log().find(({ msg }) => msg === 'session ended')
    expect(ended).toMatchObject({ why: 'disconnected', reads: 1 })
  })

  test('a second SIGTERM ends the sessions that are left', async ({ disk, gateway }) => {
    const running = await gateway(config([tcpDoor()], [disk]))
    const client = await inside(running.port('tcp'))
    running.kill('SIGTERM')
    await running.waitForLog(({ msg }) => msg === 'draining')
    running.kill('SIGTERM')
    await client.closed()
    expect(await running.waitForExit()).toEqual({ code: 0, signal: null })
    expect(running.log().find(({ msg }) => msg === 'session ended')).toMatchObject({ why: 'gateway stopped' })
  })

  test('SIGHUP ends nothing', async ({ disk, gateway }) => {
    const running = await gateway(config([tcpDoor()], [disk]))
    const client = await inside(running.port('tcp'))
    running.kill('SIGHUP')
    await running.waitForLog(({ msg }) => String(msg).includes('reload'))
    expect(await isServed(client)).toBe(true)
    expect(await isServed(await inside(running.port('tcp')))).toBe(true)
  })
})
