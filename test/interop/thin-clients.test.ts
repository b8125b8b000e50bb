/** The recipes of config/ for private disks, with real programs: whose disk is whose, and for how long. */
import { readFileSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Cmd } from '../../src/protocol/constants.ts'
import { seededBytes, seededFile, sha256 } from '../support/disk.ts'
import { test } from '../support/fixtures.ts'
import type { RunningGateway } from '../support/gateway.ts'
import type { TestPki } from '../support/pki.ts'
import { runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { waitFor } from '../support/wait.ts'
import { nbdsUri } from './configs.ts'
import { leftIn, linesOf, namesIn, nbdgate, programsOf, script, untilNothingIsLeft } from './hooks-ground.ts'
import { entered } from './sharing-ground.ts'

const MIB = 1024 * 1024

/** A file of config/, with the places of a test in it and nothing else changed. */
function recipe(name: string, dir: string, pki: TestPki): string {
  const places: readonly (readonly [string, string])[] = [
    ['/srv/golden.img', join(dir, 'golden.img')],
    ['/var/lib/nbdgate', join(dir, 'state')],
    ['state: /srv/nbdgate', `state: ${join(dir, 'state')}\nadmin: { socket: ${join(dir, 'admin.sock')} }`],
    ['/run/nbdgate/admin.sock', join(dir, 'admin.sock')],
    ['/etc/nbdgate/certs/server-cert.pem', pki.server.cert],
    ['/etc/nbdgate/certs/server-key.pem', pki.server.key],
    ['/etc/nbdgate/certs/ca-cert.pem', pki.ca.cert],
    ['0.0.0.0:10809', '127.0.0.1:0'],
    ['cert:ou=thin clients', 'cert:cn=*'],
    ['cert:ou=kiosks', 'cert:cn=*'],
    ['/dev/vg0', join(dir, 'dev', 'vg0')],
  ]
  const text = readFileSync(new URL(`../../config/${name}.yaml`, import.meta.url), 'utf8')
  return places.reduce((all, [from, to]) => all.replaceAll(from, to), text)
}

/** A golden image, and what alice and bob will write over it. */
async function images(dir: string) {
  const golden = await seededFile(join(dir, 'golden.img'), 2, 1)
  const [alice, bob] = [join(dir, 'alice.img'), join(dir, 'bob.img')]
  return { golden, sum: await sha256(golden), alice: await seededFile(alice, 2, 2), bob: await seededFile(bob, 2, 3) }
}

/** As lvm2 has them, as far as the recipe goes: a volume is a file, a snapshot a copy. */
async function lvmStandIn(dir: string): Promise<string> {
  const bin = join(dir, 'bin')
  const volumes = join(dir, 'dev', 'vg0')
  await mkdir(bin)
  await mkdir(volumes, { recursive: true })
  await runOk(['cp', join(dir, 'golden.img'), join(volumes, 'golden')])
  const wanted = '--quiet --snapshot --permission rw --setactivationskip n --name'
  await script(
    bin,
    'lvcreate',
    `echo "lvcreate $*" >> ${join(dir, 'lvm')}
[ "$1 $2 $3 $4 $5 $6 $7" = "${wanted}" ] && [ "$9" = vg0/golden ] && [ ! -e ${volumes}/"$8" ] || exit 3
cp ${volumes}/golden ${volumes}/"$8"`,
  )
  await script(
    bin,
    'lvremove',
    `echo "lvremove $*" >> ${join(dir, 'lvm')}
[ "$1 $2" = "--quiet --yes" ] && [ -e ${dir}/dev/"$3" ] || exit 5
rm ${dir}/dev/"$3"`,
  )
  return `${bin}:${process.env.PATH}`
}

const both = ['alice', 'bob'] as const

requires(
  'qemu-nbd',
  'qemu-img',
  'nbdkit',
  'nbdcopy',
)('thin clients of one golden image', () => {
  test.for(['thin-qcow2', 'thin-lvm', 'thin-reflink'])(
    'keep a disk of their own: %s',
    async (name, { dir, gateway, pki }) => {
      const { golden, sum, ...written } = await images(dir)
      const env = name === 'thin-lvm' ? { PATH: await lvmStandIn(dir) } : {}
      const text = recipe(name, dir, pki)
      const uri = (running: RunningGateway, who: (typeof both)[number]) =>
        nbdsUri(running.port('tls'), 'thin', pki[who])
      const find = async (running: RunningGateway): Promise<void> => {
        for (const who of both) {
          const copy = join(dir, `${who}.copy`)
          await runOk(['nbdcopy', uri(running, who), copy])
          expect([who, await sha256(copy)]).toEqual([who, await sha256(written[who])])
        }
      }
      const first = await gateway(text, { env })
      const fresh = join(dir, 'fresh.img')
      await runOk(['nbdcopy', uri(first, 'alice'), fresh])
      expect(await sha256(fresh)).toBe(sum)
      // Both at once: nobody is in anybody's way.
      const clients = await Promise.all(both.map(who => entered(first.port('tls'), pki[who], 'thin')))
      await Promise.all(both.map(who => runOk(['nbdcopy', '--flush', written[who], uri(first, who)])))
      for (const { client } of clients) client.reset()
      await find(first)
      await first.stop()
      expect(namesIn(dir, 'state', 'run')).toEqual([])
      const second = await gateway(text, { env })
      await find(second)
      second.kill('SIGKILL')
      await second.waitForExit()
      const third = await gateway(text, { env })
      await find(third)
      expect(await sha256(golden)).toBe(sum)
      const socket = join(dir, 'admin.sock')
      if (name !== 'thin-qcow2') return
      const { stdout } = await nbdgate('overlays', 'list', '--socket', socket, '--json')
      const list: readonly { id: string; who: string; bytes: number }[] = JSON.parse(stdout)
      expect(list.map(({ who }) => who)).toEqual(['cert:cn=alice', 'cert:cn=bob'])
      for (const { id, bytes } of list) {
        expect(bytes).toBeGreaterThanOrEqual(2 * MIB)
        await waitFor(
          'nobody uses it',
          async () => (await nbdgate('overlays', 'rm', id, '--socket', socket)).code === 0,
        )
      }
      await untilNothingIsLeft(third, dir)
      await runOk(['nbdcopy', uri(third, 'alice'), fresh])
      expect(await sha256(fresh)).toBe(sum)
    },
  )

  test('on LVM get their snapshots removed when they are too old', async ({ dir, gateway, pki }) => {
    await images(dir)
    const env = { PATH: await lvmStandIn(dir) }
    const text = recipe('thin-lvm', dir, pki)
    const first = await gateway(text, { env })
    const { client } = await entered(first.port('tls'), pki.alice, 'thin')
    client.reset()
    await first.stop()
    const [id = ''] = namesIn(dir, 'dev', 'vg0').filter(each => each !== 'golden')
    expect(id).toMatch(/^thin-cert-cn-alice-[0-9a-f]{16}$/)
    const second = await gateway(text.replace('keep: 90d', 'keep: 1ms'), { env })
    await second.waitForLog(({ msg, hook }) => msg === 'hook done' && hook === 'cleanup')
    await untilNothingIsLeft(second, dir)
    expect(namesIn(dir, 'dev', 'vg0')).toEqual(['golden'])
    expect(linesOf(join(dir, 'lvm')).map(line => line.split(' ')[0])).toEqual(['lvcreate', 'lvremove'])
  })

  test('begin anew with each connection: thin-cow', async ({ dir, gateway, pki }) => {
    const { golden, sum } = await images(dir)
    const running = await gateway(recipe('thin-cow', dir, pki))
    const clients = await Promise.all(both.map(who => entered(running.port('tls'), pki[who], 'kiosk')))
    const blocks = both.map((_, nth) => seededBytes(10 + nth, 4096))
    for (const [nth, { client }] of clients.entries()) {
      client.request(Cmd.WRITE, 1n, 0n, 4096, blocks[nth])
      expect(await client.simpleReply()).toMatchObject({ error: 0 })
    }
    for (const [nth, { client }] of clients.entries()) {
      client.request(Cmd.READ, 2n, 0n, 4096)
      expect((await client.simpleReply(4096)).data).toEqual(blocks[nth])
      client.reset()
    }
    await untilNothingIsLeft(running, dir)
    const copy = join(dir, 'copy.img')
    await runOk(['nbdcopy', nbdsUri(running.port('tls'), 'kiosk', pki.alice), copy])
    expect(await sha256(copy)).toBe(sum)
    expect(await sha256(golden)).toBe(sum)
    await running.stop()
    expect([leftIn(dir), programsOf(running.pid)]).toEqual([[], []])
  })
})
