// `nbdgate doctor`: what it finds of a host, a configuration and real servers, and how it says so.

import { once } from 'node:events'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { expect } from 'vitest'
import { z } from 'zod'
import { seededFile } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { MAIN } from '../support/gateway.ts'
import { run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { freePort } from '../support/wait.ts'
import { allow, config, type Entry, tlsDoor } from './configs.ts'

const report = z.object({
  problems: z.number(),
  warnings: z.number(),
  findings: z.array(
    z.object({
      level: z.enum(['fine', 'warning', 'problem']),
      check: z.string(),
      what: z.string(),
      todo: z.string().exactOptional(),
    }),
  ),
})

const doctor = (...args: readonly string[]) => run([process.execPath, MAIN, 'doctor', ...args])

const test = base.extend('examine', async ({ dir }) => {
  /** Writes the configuration and has it looked at; found ones as `level check: what`. */
  return async (yaml: string) => {
    const file = join(dir, 'doctor.yaml')
    await writeFile(file, yaml)
    const { code, stdout, stderr } = await doctor('--config', file, '--json')
    expect(stderr).toBe('')
    const { findings, problems } = report.parse(JSON.parse(stdout))
    // Every complaint says what to do, and the exit code goes by problems alone.
    expect(findings.filter(({ level, todo }) => level !== 'fine' && todo === undefined)).toEqual([])
    expect(code).toBe(problems > 0 ? 1 : 0)
    return findings.map(({ level, check, what }) => `${level} ${check}: ${what}`)
  }
})

const disk = (uri: string, more: Entry = {}): Entry => ({
  name: 'disk',
  upstream: uri,
  allow: [allow('alice', 'write')],
  ...more,
})

requires(
  'nbd-server',
  'nbdkit',
  'qemu-nbd',
)('doctor', () => {
  test('has no problem with a configuration that works, and says what it has looked at', async ({
    dir,
    examine,
    pki,
    nbdServer,
  }) => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    const server = await nbdServer({ exports: { disk: { file, flush: true, fua: true } } })
    const found = await examine(
      config([tlsDoor(pki)], [disk(server.uri('disk'))], { state: 'state', admin: { socket: 'admin.sock' } }),
    )
    expect(found.filter(each => each.startsWith('problem'))).toEqual([])
    for (const check of [
      'node',
      'ssh',
      'clock',
      'configuration',
      'keys',
      'files',
      'state',
      'admin',
      'doors',
      'limits',
    ]) {
      expect(found.some(each => each.includes(` ${check}: `))).toBe(true)
    }
    expect(found).toContain('fine upstream of "disk": nbd-server, 1048576 bytes')
  })

  test('tells the servers apart, and knows their ways', async ({ dir, examine, pki, nbdServer, nbdkit, qemuNbd }) => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    const careless = await nbdServer({ exports: { disk: { file }, shelf: { file, readonly: true } } })
    const [kit, qemu] = [await nbdkit('memory', '1M'), await qemuNbd(file, '-t', '-f', 'raw', '-x', 'disk')]
    const found = await examine(
      config(
        [tlsDoor(pki)],
        [
          disk(careless.uri('disk')),
          disk(careless.uri('shelf'), { name: 'shelf' }),
          disk(careless.uri('absent'), { name: 'absent' }),
          disk(`nbd+unix:///?socket=${kit}`, { name: 'kit' }),
          disk(`nbd+unix:///disk?socket=${qemu}`, { name: 'qemu' }),
          disk(`nbd://127.0.0.1:${await freePort()}/x`, { name: 'nobody' }),
        ],
      ),
    )
    expect(found).toContain(
      'warning upstream of "disk": nbd-server offers no FLUSH: nothing makes written data durable',
    )
    expect(found).toContain('warning upstream of "shelf": rules grant write, and the server is read-only')
    expect(found).toContainEqual(expect.stringMatching(/^problem upstream of "absent": nbd-server: GO refused with/))
    expect(found).toContain('fine upstream of "kit": nbdkit, 1048576 bytes')
    expect(found).toContain('fine upstream of "qemu": qemu-nbd, 1048576 bytes')
    expect(found).toContain('problem upstream of "nobody": no connection: ECONNREFUSED')
  })

  test('finds what others may change or read, and ports that are taken', async ({ dir, examine, pki }) => {
    const listener = createServer().listen(0, '127.0.0.1')
    await once(listener, 'listening')
    try {
      const address = listener.address()
      const port = typeof address === 'object' ? address?.port : 0
      const key = join(dir, 'key.pem')
      await writeFile(key, await runOk(['cat', pki.server.key]))
      await chmod(key, 0o666)
      await mkdir(join(dir, 'state'), { mode: 0o777 })
      await chmod(join(dir, 'state'), 0o777)
      const doors = [tlsDoor(pki, { tls: `127.0.0.1:${port}`, key }), { unix: 'nbd.sock' }]
      const found = await examine(config(doors, [], { state: 'state' }))
      expect(found).toContainEqual(expect.stringContaining(`problem files: ${key}: everybody may change it`))
      expect(found).toContainEqual(expect.stringContaining(`warning configuration: ${key}: others may read`))
      expect(found).toContainEqual(expect.stringMatching(/^problem state: .*open to others \(mode 0777\)/))
      expect(found).toContain(`problem doors: tls 127.0.0.1:${port}: the address is in use`)
      expect(found).toContain(`fine doors: unix ${join(dir, 'nbd.sock')}: free`)
    } finally {
      listener.close()
    }
  })

  test('takes the doors of a running gateway for its own', async ({ dir, gateway }) => {
    const text = config([{ unix: 'nbd.sock' }], [], { admin: { socket: 'admin.sock' } })
    const { configFile } = await gateway(text)
    const { code, stdout } = await doctor('--config', configFile)
    expect(code).toBe(0)
    expect(stdout).toContain(`fine: doors: unix ${join(dir, 'nbd.sock')}: in use\n`)
  })

  test('goes on with the host where the configuration has problems, and names each', async ({ examine }) => {
    const found = await examine('version: 2\ndoors: []\nexports: []\n')
    expect(found.filter(each => /^problem configuration: .*doctor\.yaml:[12]:/.test(each))).toHaveLength(2)
    expect(found).toContainEqual(expect.stringMatching(/^(fine|warning) node: /))
  })

  test('wants a file that is there: usage, exit 2', async ({ dir }) => {
    const { code, stdout, stderr } = await doctor('--config', join(dir, 'absent.yaml'))
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toContain('there is no such file')
  })
})

requires('openssl')('keys', () => {
  test('that are weak, guessable or soon over are found', async ({ dir, examine }) => {
    const [cert, key] = [join(dir, 'weak.pem'), join(dir, 'weak.key')]
    const subject = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=DNS:localhost', '-days', '5']
    await runOk(['openssl', 'req', '-x509', '-newkey', 'rsa:1024', '-nodes', '-keyout', key, '-out', cert, ...subject])
    await chmod(key, 0o600)
    const psk = join(dir, 'keys.psk')
    const hex = (text: string) => Buffer.from(text).toString('hex')
    const lines = [
      `same:${'ab'.repeat(32)}`,
      `word:${hex('correct horse battery staple!!!!')}`,
      'short:00112233445566778899aabbccddeeff',
    ]
    await writeFile(psk, `${lines.join('\n')}\n`, { mode: 0o600 })
    const found = await examine(config([{ tls: '127.0.0.1:0', cert, key, psk }], []))
    expect(found).toContain(`problem keys: ${cert}: a key of 1024 bits (rsa) can be broken`)
    expect(found).toContainEqual(expect.stringContaining(`warning configuration: ${cert}: the certificate expires on`))
    expect(found).toContain(`problem keys: ${psk}: the key of "same" repeats itself`)
    expect(found).toContain(`warning keys: ${psk}: the key of "word" looks like a password`)
    expect(found).toContain(`warning keys: ${psk}: the key of "short" has 16 bytes only`)
  })
})

requires('script')('on a terminal', () => {
  const inTerminal = (dir: string, env: Readonly<Record<string, string>>) =>
    run(['script', '-qec', `${process.execPath} ${MAIN} doctor`, '/dev/null'], {
      cwd: dir,
      env: { TERM: 'xterm', NO_COLOR: '', ...env },
    })

  test('levels have colours, unless NO_COLOR says no; a pipe gets none', async ({ dir }) => {
    expect((await inTerminal(dir, {})).stdout).toContain('\x1b[32mfine\x1b[39m')
    expect((await inTerminal(dir, { NO_COLOR: '1' })).stdout).not.toContain('\x1b')
    expect((await doctor()).stdout).not.toContain('\x1b')
  })
})
