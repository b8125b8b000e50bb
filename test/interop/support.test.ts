import { existsSync } from 'node:fs'
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ext4Image, seededBytes, seededFile, sha256 } from '../support/disk.ts'
import { test } from '../support/fixtures.ts'
import { run, runOk, start } from '../support/process.ts'
import { isAlive, isListening, openFds, rssKiB, signalIfAlive, signalTo } from '../support/procfs.ts'
import { findProgram, isCi, packages, packagesOf } from '../support/programs.mjs'
import { requires } from '../support/requires.ts'
import { startNbdkit, startNbdServer } from '../support/servers.ts'
import { makeTempFolder, removeTempFolder } from '../support/temp.ts'
import { freePort, isConnectable, waitFor } from '../support/wait.ts'

const MIB = 1024 * 1024

const sizeOf = async (uri: string) => Number(await runOk(['nbdinfo', '--size', uri]))

requires('nbd-server', 'nbdinfo')('nbd-server', () => {
  test('serves its exports on a port, read-only where told', async ({ dir, nbdServer }) => {
    const file = await seededFile(join(dir, 'disk.img'), 3)
    const server = await nbdServer({
      exports: { disk: { file, flush: true, fua: true }, 'a b': { file, readonly: true } },
    })
    expect(await sizeOf(server.uri('disk'))).toBe(3 * MIB)
    expect(isListening(server.pid, server.port)).toBe(true)
    const facts = await runOk(['nbdinfo', server.uri('disk')])
    expect(facts).toContain('is_read_only: false')
    expect(facts).toContain('can_flush: true')
    expect(facts).toContain('can_fua: true')
    expect(await runOk(['nbdinfo', server.uri('a b')])).toContain('is_read_only: true')
  })

  test("serves on a Unix socket, with lines of one's own", async ({ dir, nbdServer }) => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    const exports = { disk: { file, extra: 'readonly = true' } }
    const server = await nbdServer({ unix: true, generic: 'max_threads = 2', exports })
    expect(server.socket).toMatch(/\.sock$/)
    expect(await runOk(['nbdinfo', server.uri('disk')])).toContain('is_read_only: true')
  })

  test('is gone after its stop, with the processes of its connections', async ({ dir }) => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    const server = await startNbdServer(dir, 'doomed', { exports: { disk: { file } } })
    const client = await start(['socat', '-u', `TCP:127.0.0.1:${server.port}`, `CREATE:${join(dir, 'greeting')}`], {
      ready: () => existsSync(join(dir, 'greeting')),
    })
    await server.stop()
    expect(isAlive(server.pid)).toBe(false)
    expect(await isConnectable(server.address)).toBe(false)
    await client.waitForExit()
  })
})

requires('nbdkit', 'nbdinfo')('nbdkit', () => {
  test('answers, two at once', async ({ nbdkit }) => {
    const first = await nbdkit('memory', '1M')
    const second = await nbdkit('--filter=readahead', 'memory', '2M')
    expect(await sizeOf(`nbd+unix:///?socket=${first}`)).toBe(MIB)
    expect(await sizeOf(`nbd+unix:///?socket=${second}`)).toBe(2 * MIB)
  })

  test('says what is wrong when it does not come up', async ({ nbdkit }) => {
    await expect(nbdkit('no-such-plugin')).rejects.toThrow(/no-such-plugin/)
  })

  test('is gone after its stop', async ({ dir }) => {
    const server = await startNbdkit(dir, 'doomed', ['memory', '1M'])
    await server.process.stop()
    expect(isAlive(server.process.pid)).toBe(false)
    expect(server.process.exit()).toEqual({ code: 0, signal: null })
  })
})

requires(
  'qemu-nbd',
  'qemu-img',
  'nbdinfo',
)('qemu-nbd', () => {
  test('serves a raw image, and one of another format', async ({ dir, qemuNbd }) => {
    const raw = await qemuNbd(await seededFile(join(dir, 'disk.img'), 2))
    expect(await sizeOf(`nbd+unix:///?socket=${raw}`)).toBe(2 * MIB)
    const image = join(dir, 'disk.qcow2')
    await runOk(['qemu-img', 'create', '-q', '-f', 'qcow2', image, '5M'])
    const qcow2 = await qemuNbd(image, '-f', 'qcow2', '-x', 'named')
    expect(await sizeOf(`nbd+unix:///named?socket=${qcow2}`)).toBe(5 * MIB)
  })
})

requires('openssl')('pki', () => {
  test('openssl believes its leaves for their purpose, and not the rogue ones', async ({ pki }) => {
    const verify = (purpose: string, cert: string) =>
      run(['openssl', 'verify', '-CAfile', pki.ca.cert, '-purpose', purpose, cert])
    const names = ['-verify_hostname', 'localhost', pki.server.cert]
    expect((await run(['openssl', 'verify', '-CAfile', pki.ca.cert, '-purpose', 'sslserver', ...names])).code).toBe(0)
    for (const ip of ['127.0.0.1', '::1']) {
      expect((await run(['openssl', 'verify', '-CAfile', pki.ca.cert, '-verify_ip', ip, pki.server.cert])).code).toBe(0)
    }
    for (const leaf of [pki.alice, pki.bob, pki.client('carol')]) {
      expect((await verify('sslclient', leaf.cert)).code).toBe(0)
      expect((await verify('sslserver', leaf.cert)).code).not.toBe(0)
    }
    for (const leaf of [pki.mallory, pki.rogueServer]) expect((await verify('any', leaf.cert)).code).not.toBe(0)
    const rogue = await run(['openssl', 'verify', '-CAfile', pki.rogueCa.cert, pki.mallory.cert, pki.rogueServer.cert])
    expect(rogue.code).toBe(0)
  })

  test('each folder has what libnbd and qemu look for, and the true authority', async ({ pki }) => {
    const trusted = await readFile(pki.ca.cert, 'utf8')
    for (const leaf of [pki.alice, pki.bob, pki.mallory]) {
      expect(await readdir(leaf.dir)).toEqual(['ca-cert.pem', 'client-cert.pem', 'client-key.pem'])
      expect(await readFile(leaf.ca, 'utf8')).toBe(trusted)
    }
  })
})

requires('mke2fs', 'e2fsck')('disks', () => {
  test('an ext4 image is clean and has its files', async ({ dir }) => {
    const image = await ext4Image(dir, 16, 40)
    const { code, stdout } = await run(['e2fsck', '-fn', image])
    expect(code).toBe(0)
    expect(stdout).toMatch(/\b\d+\/\d+ files/)
    expect(await runOk(['debugfs', '-R', 'ls -p /folder-2', image])).toContain('/file-39/')
    expect(await readdir(dir)).toEqual(['disk.ext4'])
  })

  test('seeded content depends on the seed alone', async ({ dir }) => {
    expect(seededBytes(1, 64)).toEqual(seededBytes(1, 128).subarray(0, 64))
    expect(seededBytes(2, 64)).not.toEqual(seededBytes(1, 64))
    const first = await sha256(await seededFile(join(dir, 'first'), 1, 7))
    expect(await sha256(await seededFile(join(dir, 'second'), 1, 7))).toBe(first)
  })

  test('a digest is that of sha256sum', async ({ dir }) => {
    await writeFile(join(dir, 'abc'), 'abc')
    // FIPS 180-2, B.1
    expect(await sha256(join(dir, 'abc'))).toBe('ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad')
  })
})

describe('processes', () => {
  test("a program's input, output and exit code are kept apart", async ({ dir }) => {
    const script = 'read line; echo "out $line $WHO in $PWD"; echo err >&2; exit 3'
    const result = await run(['sh', '-c', script], { input: 'given\n', env: { WHO: 'me' }, cwd: dir })
    expect(result).toEqual({ code: 3, signal: null, stdout: `out given me in ${dir}\n`, stderr: 'err\n' })
  })

  it('kills a program that does not end, and says so', async () => {
    await expect(run(['sleep', '1000'], { timeoutMs: 50 })).rejects.toThrow(/sleep 1000: no end within 50 ms/)
  })

  it('reports a program that is not there', async () => {
    await expect(run(['no-such-program'])).rejects.toThrow(/no-such-program could not be started/)
    await expect(start(['no-such-program'], { ready: () => false })).rejects.toThrow(/could not be started/)
  })

  it('reports a program that ends before it is ready, with its last words', async () => {
    const early = start(['sh', '-c', 'echo last words >&2; exit 4'], { ready: () => false })
    await expect(early).rejects.toThrow(/ended with 4\nlast words/)
  })

  test('stops a program that is never ready, and one that ignores SIGTERM', async ({ dir }) => {
    const pids: number[] = []
    const pidFile = join(dir, 'pid')
    const late = start(['sh', '-c', `echo $$ > ${pidFile}; exec sleep 1000`], { ready: () => false, readyBoundMs: 100 })
    await expect(late).rejects.toThrow(/ready: not within 100 ms/)
    pids.push(Number(await readFile(pidFile, 'utf8')))
    const deaf = await start(['sh', '-c', `trap '' TERM; : > ${pidFile}.2; while :; do sleep 0.05; done`], {
      ready: () => existsSync(`${pidFile}.2`),
    })
    pids.push(deaf.pid)
    expect(await deaf.stop(50)).toEqual({ code: null, signal: 'SIGKILL' })
    expect(pids.filter(isAlive)).toEqual([])
  })

  it('are signalled by their pid, and by nothing that kill(2) takes for a whole group', async () => {
    for (const pid of [0, -1, 1, Number.NaN, 1.5, undefined]) {
      expect(() => signalTo(pid, 'SIGCONT'), String(pid)).toThrow('no pid')
      expect(() => signalIfAlive(pid ?? 0, 'SIGCONT'), String(pid)).toThrow('no pid')
    }
    const raw = /(?<![.\w])process\.kill\(/
    const root = join(import.meta.dirname, '..')
    const sources = (await readdir(root, { recursive: true })).filter(name => name.endsWith('.ts'))
    const texts = await Promise.all(sources.map(async name => await readFile(join(root, name), 'utf8')))
    expect(sources.filter((_, index) => raw.test(texts[index] ?? ''))).toEqual([
      'support/procfs.ts',
      'support/watchdog.ts',
    ])
  })

  it('does not wait for the outputs of what a program left behind', async () => {
    const { code, stdout } = await run(['sh', '-c', 'sleep 1000 & echo $!'])
    signalTo(Number(stdout), 'SIGTERM')
    expect(code).toBe(0)
  })

  it('counts descriptors and memory of a process', () => {
    expect(openFds(process.pid)).toBeGreaterThan(3)
    expect(rssKiB(process.pid)).toBeGreaterThan(10_000)
  })

  it('finds a port that nobody listens on', async () => {
    expect(await isConnectable({ host: '127.0.0.1', port: await freePort() })).toBe(false)
  })

  it('gives up waiting after the bound, with a description', async () => {
    const wait = waitFor('rain', () => false, { boundMs: 20, describe: () => 'sunny' })
    await expect(wait).rejects.toThrow('rain: not within 20 ms\nsunny')
  })

  it('makes temporary folders with room for a socket name, and removes them with all that is in them', async () => {
    const folder = await makeTempFolder()
    expect(join(folder, 'a'.repeat(40)).length).toBeLessThan(108)
    await writeFile(join(folder, 'file'), '')
    await removeTempFolder(folder)
    expect(existsSync(folder)).toBe(false)
  })
})

describe('programs', () => {
  it("finds programs outside PATH in the system's own folders, and not what is not there", () => {
    const path = process.env.PATH
    process.env.PATH = ''
    try {
      expect(findProgram('sh')).toMatch(/\/bin\/sh$/)
    } finally {
      process.env.PATH = path
    }
    expect(findProgram('no-such-program')).toBeUndefined()
    expect(findProgram('python3:no_such_module')).toBeUndefined()
  })

  it('names each package once', () => {
    expect(packagesOf(['qemu-nbd', 'nbdinfo', 'qemu-img', 'nbdcopy'])).toEqual(['libnbd-bin', 'qemu-utils'])
    expect(Object.keys(packages)).toContain('python3:nbd')
  })

  it('knows a CI by a variable that does not mean no', () => {
    expect(isCi({ CI: 'true' })).toBe(true)
    expect(isCi({ CI: '1' })).toBe(true)
    for (const CI of ['', '0', 'false']) expect(isCi({ CI })).toBe(false)
    expect(isCi({})).toBe(false)
  })
})
