// fio writes at random places with 64 requests in flight, and finds every block again.
import { readFile, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { test } from '../support/fixtures.ts'
import { run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { allow, config, tlsDoor } from './configs.ts'
import { AS_NOBODY, home } from './fio-home.ts'

const SIZE_MIB = 32
const MIB = 1024 * 1024
const FIO_MS = 120_000

requires('nbd-server', 'fio')('fio over TLS', () => {
  test('finds every block that it wrote, with 64 in flight', { timeout: 2 * FIO_MS }, async ({
    dir,
    pki,
    nbdServer,
    gateway,
  }) => {
    const file = join(dir, 'disk.img')
    await writeFile(file, '')
    await truncate(file, SIZE_MIB * MIB)
    const server = await nbdServer({ exports: { disk: { file, flush: true, fua: true } } })
    const exports = [{ name: 'disk', upstream: server.uri('disk'), allow: [allow('alice', 'write')] }]
    const running = await gateway(config([tlsDoor(pki)], exports))
    const folder = await home(dir, pki.alice)
    const job = ['--name=verify', '--rw=randwrite', '--bs=4k', '--iodepth=64', `--size=${SIZE_MIB}M`, '--fsync=256']
    const verify = ['--verify=crc32c', '--do_verify=1', '--verify_fatal=1', '--verify_state_save=0']
    const where = ['--ioengine=nbd', `--uri=nbds://localhost:${running.port('tls')}/disk`]
    const argv = [...AS_NOBODY, 'fio', '--output-format=json', '--output=report.json', ...where, ...job, ...verify]
    await runOk(argv, { cwd: folder, env: { HOME: folder }, timeoutMs: FIO_MS })
    const report: unknown = JSON.parse(await readFile(join(folder, 'report.json'), 'utf8'))
    const ios = (SIZE_MIB * MIB) / 4096
    const job0 = { error: 0, read: { total_ios: ios }, write: { total_ios: ios } }
    expect(report).toMatchObject({ jobs: [job0] })
    const ended = await running.waitForLog(line => line.msg === 'session ended' && line.bytesWritten === SIZE_MIB * MIB)
    expect(ended).toMatchObject({ why: 'disconnected', who: 'cert:cn=alice', refused: 0 })
    // The blocks are on the server's disk, where a fio without network finds them again.
    const local = ['--ioengine=psync', `--filename=${file}`, '--name=verify', '--rw=randwrite', '--bs=4k']
    const again = ['--verify_only', '--verify=crc32c', '--verify_state_save=0', `--size=${SIZE_MIB}M`]
    expect(await run(['fio', ...local, ...again], { timeoutMs: FIO_MS })).toMatchObject({ code: 0 })
  })
})
