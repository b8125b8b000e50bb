// `nbdgate probe`: what a client would find, told to a person and to a program.
import { join } from 'node:path'
import { expect } from 'vitest'
import { seededFile } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { MAIN } from '../support/gateway.ts'
import { run } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { freePort } from '../support/wait.ts'
import { allow, config, tlsDoor } from './configs.ts'

const SIZE = 1024 * 1024

const probe = (...args: readonly string[]) => run([process.execPath, MAIN, 'probe', ...args])

const test = base
  .extend('server', async ({ dir, nbdServer }) => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    return await nbdServer({ exports: { disk: { file, flush: true }, other: { file, readonly: true } } })
  })
  /** The URI of `disk` at a TLS door, and the arguments with which alice comes. */
  .extend('door', async ({ server, pki, gateway }) => {
    const exports = [
      { name: 'disk', description: 'the lab', upstream: server.uri('disk'), allow: [allow('alice', 'read')] },
      { name: 'secret', upstream: server.uri('other'), allow: [allow('bob', 'read')] },
    ]
    const port = (await gateway(config([tlsDoor(pki)], exports))).port('tls')
    const { ca, cert, key } = pki.alice
    return { uri: (name: string) => `nbds://localhost:${port}/${name}`, ca, cert, key }
  })

requires('nbd-server')('probe', () => {
  test('tells what nbd-server has', async ({ server }) => {
    const { code, stdout, stderr } = await probe(server.uri('disk'))
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout).toContain('export "disk"')
    expect(stdout).toContain('export "other"')
    expect(stdout).toContain('opened "disk"')
    expect(stdout).toContain(`size: ${SIZE} bytes`)
    expect(stdout).toMatch(/flags: .*SEND_FLUSH/)
    expect(stdout).toContain('structured replies: no')
  })

  test('tells a program the same as JSON', async ({ server }) => {
    const { code, stdout } = await probe('--json', server.uri('other'))
    expect(code).toBe(0)
    const told: unknown = JSON.parse(stdout)
    expect(told).toMatchObject({
      uri: server.uri('other'),
      exports: [{ name: 'disk' }, { name: 'other' }],
      export: { name: 'other', sizeBytes: String(SIZE), structuredReplies: false },
    })
    expect(told).toHaveProperty('export.flags', expect.stringContaining('READ_ONLY'))
  })

  test('comes in through TLS, and sees what its certificate may see', async ({ door }) => {
    const keys = ['--ca', door.ca, '--cert', door.cert, '--key', door.key]
    const told: unknown = JSON.parse((await probe('--json', ...keys, door.uri('disk'))).stdout)
    expect(told).toMatchObject({
      exports: [{ name: 'disk', description: 'the lab' }],
      export: {
        name: 'disk',
        sizeBytes: String(SIZE),
        blockSize: { minimum: 1, preferred: 4096, maximumPayload: 32 * SIZE },
        structuredReplies: true,
      },
    })
    const { stdout } = await probe(...keys, door.uri('disk'))
    expect(stdout).toContain('structured replies: yes')
    expect(stdout).toMatch(/flags: .*READ_ONLY/)
    expect(stdout).not.toContain('secret')
  })

  test("tells a server's no as the server said it", async ({ door }) => {
    const keys = ['--ca', door.ca, '--cert', door.cert, '--key', door.key]
    const { stdout } = await probe(...keys, door.uri('secret'))
    expect(stdout).toMatch(/go: .*no such export/)
  })

  test('does not go on in plaintext, nor with a server of another authority', async ({ door, server, pki }) => {
    const plain = await probe(server.uri('disk').replace('nbd:', 'nbds:'))
    expect(plain.stdout).not.toContain('opened')
    const rogue = await probe('--ca', pki.rogueCa.cert, '--cert', door.cert, '--key', door.key, door.uri('disk'))
    expect(rogue).toMatchObject({ code: 1, stdout: '' })
    expect(rogue.stderr).toContain('no TLS with localhost')
  })

  test('fails with 1 where nobody listens, and with 2 for what is no URI', async () => {
    const gone = await probe(`nbd://127.0.0.1:${await freePort()}/disk`)
    expect(gone).toMatchObject({ code: 1, stdout: '', stderr: expect.stringContaining('ECONNREFUSED') })
    const nonsense = await probe('ftp://localhost/')
    expect(nonsense).toMatchObject({ code: 2, stdout: '', stderr: expect.stringContaining('ftp://') })
  })
})
