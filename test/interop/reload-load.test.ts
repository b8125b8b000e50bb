// Reloads while twenty disks are busy: exactly those whose rights are gone notice.
import { chmod, mkdir, rename, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import type { LeafFiles } from '../../src/pki/files.ts'
import { test } from '../support/fixtures.ts'
import type { RunningGateway } from '../support/gateway.ts'
import { runOk, type Started, start } from '../support/process.ts'
import { openFds } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import { waitFor } from '../support/wait.ts'
import { allow, config, type Entry, tlsDoor } from './configs.ts'
import { AS_NOBODY, home } from './fio-home.ts'

const CLIENTS = 20
const RELOADS = 50
const SIZE_MIB = 2
const BOUND_MS = 100_000

/** Whose disk is which: the last two belong to those who lose something. */
const ownerOf = (nth: number): 'alice' | 'bob' | 'carol' =>
  nth === CLIENTS - 1 ? 'carol' : nth === CLIENTS - 2 ? 'bob' : 'alice'

/**
 * Starts a client that writes all blocks of a disk three times, slowly, and finds each again; those who are to lose
 * something go on until they have.
 */
async function verifyDisk(dir: string, leaf: LeafFiles, port: number, nth: number): Promise<Started> {
  await mkdir(join(dir, `client-${nth}`))
  const folder = await home(join(dir, `client-${nth}`), leaf)
  const loops = ownerOf(nth) === 'alice' ? 3 : 1000
  const job = ['--name=v', '--rw=randwrite', '--bs=4k', '--iodepth=8', `--size=${SIZE_MIB}M`, `--loops=${loops}`]
  const pace = ['--rate_iops=250', '--verify=crc32c', '--do_verify=1', '--verify_fatal=1', '--verify_state_save=0']
  const where = ['--ioengine=nbd', `--uri=nbds://localhost:${port}/disk-${nth}`]
  const argv = [...AS_NOBODY, 'fio', ...where, ...job, ...pace]
  return await start(argv, { cwd: folder, env: { HOME: folder }, ready: () => true })
}

async function reload(running: RunningGateway, text: string): Promise<void> {
  const count = () => running.log().filter(({ msg }) => msg === 'reloaded').length
  const before = count()
  await writeFile(`${running.configFile}.new`, text)
  await rename(`${running.configFile}.new`, running.configFile)
  running.kill('SIGHUP')
  await running.waitForLog(() => count() > before)
}

requires(
  'nbd-server',
  'fio',
  'certtool',
)('fifty reloads under twenty clients', () => {
  test('end a revoked and a reduced session, and no other', { timeout: 2 * BOUND_MS }, async ({
    dir,
    nbdServer,
    gateway,
    pki,
  }) => {
    const carol = pki.client('carol')
    const leaves = { alice: pki.alice, bob: pki.bob, carol }
    const disks: Record<string, { file: string; flush: boolean }> = {}
    for (let nth = 0; nth < CLIENTS; nth++) {
      const file = join(dir, `disk-${nth}.img`)
      await writeFile(file, '')
      await truncate(file, SIZE_MIB * 1024 * 1024)
      disks[`disk-${nth}`] = { file, flush: true }
    }
    const server = await nbdServer({ exports: disks })
    const crl = join(dir, 'crl.pem')
    const revoke = async (certificate?: string): Promise<void> => {
      await writeFile(join(dir, 'crl.cfg'), 'crl_next_update = 30\ncrl_number = 1\n')
      const ca = ['--load-ca-privkey', pki.ca.key, '--load-ca-certificate', pki.ca.cert]
      const listed = certificate === undefined ? [] : ['--load-certificate', certificate]
      const rest = ['--template', join(dir, 'crl.cfg'), '--outfile', `${crl}.new`]
      await runOk(['certtool', '--generate-crl', ...ca, ...listed, ...rest])
      await rename(`${crl}.new`, crl)
    }
    await chmod(dir, 0o711)
    await revoke()
    const text = (ofCarol: 'read' | 'write', nth: number): string => {
      const exports: Entry[] = Object.keys(disks).map((name, disk) => {
        const owner = ownerOf(disk)
        const rule = allow(owner, owner === 'carol' ? ofCarol : 'write')
        return { name, description: `state ${nth}`, upstream: server.uri(name), allow: [rule] }
      })
      return config([tlsDoor(pki, { crl })], exports)
    }
    const running = await gateway(text('write', 0))
    const port = running.port('tls')
    const fds = openFds(running.pid)
    const ids = Array.from({ length: CLIENTS }, (_, nth) => nth)
    const clients = await Promise.all(ids.map(nth => verifyDisk(dir, leaves[ownerOf(nth)], port, nth)))
    const opened = () => running.log().filter(({ msg }) => msg === 'session opened').length
    // fio asks for the size by a session of its own first.
    await waitFor('all clients are in', () => opened() >= 2 * CLIENTS)

    for (let nth = 1; nth <= RELOADS; nth++) {
      if (nth === 20) await revoke(pki.bob.cert)
      await reload(running, text(nth < 35 ? 'write' : 'read', nth))
    }
    // fio asks a connection that is gone for ever: who has lost his is told to end.
    const hasLost = (client: Started) => client.stderr().includes('state DEAD')
    const heard = () =>
      JSON.stringify([clients.map(each => each.stderr()), running.log().filter(({ msg }) => msg !== 'reloaded')])
    await waitFor('two have lost theirs', () => clients.filter(hasLost).length >= 2, {
      boundMs: BOUND_MS,
      describe: heard,
    })
    const lost = clients.filter(hasLost)
    await Promise.all(lost.map(client => client.stop()))
    const codes = await Promise.all(clients.map(async client => (await client.waitForExit(BOUND_MS)).code))
    expect(ids.filter(nth => codes[nth] !== 0).map(ownerOf)).toEqual(['bob', 'carol'])
    const cut = running.log().filter(({ msg, why }) => msg === 'session ended' && why !== 'disconnected')
    expect(cut.map(({ who, why }) => `${String(who)} ${String(why)}`).toSorted()).toEqual([
      'cert:cn=bob no longer allowed: certificate: revoked',
      expect.stringMatching(/^cert:cn=carol no longer allowed: read only, nbdgate.*:\d+$/),
    ])
    await waitFor('the descriptors are back', () => openFds(running.pid) <= fds)
  })
})
