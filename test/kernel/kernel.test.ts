// A real kernel as the client: Debian's, in an emulated machine that boots with the netboot kit.
import { createHash } from 'node:crypto'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { allow, config, tcpDoor, tlsDoor } from '../interop/configs.ts'
import { test } from '../support/fixtures.ts'
import { findKernel, type Kernel } from '../support/kernel.mjs'
import { run, runOk } from '../support/process.ts'
import { isCi } from '../support/programs.mjs'
import { requires } from '../support/requires.ts'
import { boot, HOST, makeInitramfs, makeRoot } from './guest.ts'

const kernel = findKernel()
const CERTS = ['ca-cert.pem', 'client-cert.pem', 'client-key.pem']

/** What the guest's init prints for each of its lines that fails is a shell's own message: the test shows all of it. */
const TLS_WRITER = `
nbd() { nbd-client ${HOST} "$PORT" /dev/nbd1 -N disk -enable-tls -tlshostname localhost \\
  -cacertfile /etc/certs/ca-cert.pem -certfile /etc/certs/client-cert.pem -keyfile /etc/certs/client-key.pem; }
for word in $(cat /proc/cmdline); do case $word in port=*) PORT=\${word#*=} ;; esac; done
echo "marker: root of $(cat /etc/name)"
nbd && /sbin/mke2fs -q -t ext4 /dev/nbd1 && mount -t ext4 /dev/nbd1 /mnt || echo "marker: no file system"
dd if=/dev/urandom of=/mnt/file bs=64k count=128 conv=fsync 2>/dev/null
echo "marker: sum $(sha256sum </mnt/file)"
umount /mnt && nbd-client -d /dev/nbd1
nbd && mount -t ext4 /dev/nbd1 /mnt
echo "marker: same $(sha256sum </mnt/file)"
umount /mnt && nbd-client -d /dev/nbd1 && echo "marker: disconnected"
`

/** Counts its boots on its own disk. */
const COUNTING = `
echo boot >>/boots && sync
echo "marker: $(grep -c boot /boots) boots on $(grep ' / ' /proc/mounts)"
`

const sumOf = async (file: string): Promise<string> =>
  createHash('sha256')
    .update(await readFile(file))
    .digest('hex')

function withKernel(title: string, body: (kernel: Kernel) => void): void {
  const programs = [
    'qemu-system-x86_64',
    'busybox',
    'modprobe',
    'cpio',
    'nbd-client',
    'nbd-server',
    'mke2fs',
    'qemu-nbd',
    'qemu-img',
  ] as const
  if (kernel !== undefined) requires(...programs)(title, () => body(kernel))
  else if (isCi()) describe(title, () => void it('has a kernel', () => expect(kernel).toBeDefined()))
  else
    describe.skip(`${title} (no kernel: npm run test:kernel gets one)`, () =>
      body({ version: '', image: '', root: '' }))
}

withKernel('the kernel client', used => {
  test('boots from the TLS door, makes a file system there, writes, syncs, and finds it again', async ({
    dir,
    pki,
    nbdServer,
    gateway,
  }) => {
    const [root, disk, initramfs] = ['root.img', 'disk.img', 'initrd.gz'].map(name => join(dir, name))
    if (root === undefined || disk === undefined || initramfs === undefined) throw new Error('three names')
    const certs = CERTS.map(name => [`etc/certs/${name}`, join(pki.alice.dir, name)])
    await makeRoot(root, {
      init: TLS_WRITER,
      programs: ['nbd-client', 'mke2fs'],
      files: { ...Object.fromEntries(certs), 'etc/name': '/etc/hostname' },
    })
    await runOk(['truncate', '-s', '64M', disk])
    const server = await nbdServer({ exports: { root: { file: root }, disk: { file: disk, flush: true } } })
    const exports = ['root', 'disk'].map(name => ({
      name,
      upstream: server.uri(name),
      allow: [allow('alice', name === 'root' ? 'read' : 'write')],
    }))
    const running = await gateway(config([tlsDoor(pki)], exports))
    const port = running.port('tls')
    await makeInitramfs(initramfs, used, pki.alice.dir)
    const screen = await boot(used, initramfs, [
      `nbdgate=${HOST}:${port}/root`,
      'nbdgate.tls=localhost',
      `port=${port}`,
    ])
    const sum = /marker: sum ([0-9a-f]{64})/.exec(screen)?.[1]
    expect(sum, screen).toBeDefined()
    expect(screen).toContain(`marker: same ${sum}`)
    expect(screen).toContain('marker: disconnected')
    expect(await run(['e2fsck', '-fn', disk])).toMatchObject({ code: 0 })
    const file = join(dir, 'file')
    await runOk(['debugfs', '-R', `dump /file ${file}`, disk])
    expect(
      createHash('sha256')
        .update(await readFile(file))
        .digest('hex'),
    ).toBe(sum)
    const opened = running.log().filter(line => line.msg === 'session opened')
    expect(opened.map(line => [line.export, line.rights, line.cipher])).toEqual([
      ['root', 'read', expect.stringMatching(/^TLSv1\.2 /)],
      ['disk', 'write', expect.stringMatching(/^TLSv1\.2 /)],
      ['disk', 'write', expect.stringMatching(/^TLSv1\.2 /)],
    ])
  })

  test('has its root on an overlay of its own, without TLS, and finds what it wrote at the next boot', async ({
    dir,
    gateway,
  }) => {
    const [golden, initramfs] = [join(dir, 'golden.img'), join(dir, 'initrd.gz')]
    await makeRoot(golden, { init: COUNTING })
    const before = await sumOf(golden)
    await makeInitramfs(initramfs, used)
    // As config/thin-qcow2.yaml has it, for addresses instead of certificates.
    const exports = [
      {
        name: 'thin',
        upstream: { spawn: ['qemu-nbd', '-t', '-e', '0', '-k', '{socket}', '-f', 'qcow2', '{overlay}'] },
        prepare: ['qemu-img', 'create', '-q', '-f', 'qcow2', '-F', 'raw', '-b', golden, '{overlay}'],
        per: 'identity',
        allow: [{ who: 'address:127.0.0.0/8', rights: 'write' }],
      },
    ]
    const text = config([tcpDoor()], exports, { state: join(dir, 'state') })
    for (const boots of [1, 2]) {
      const running = await gateway(text)
      const place = `nbdgate=${HOST}:${running.port('tcp')}/thin`
      const screen = await boot(used, initramfs, [place, 'rw'])
      expect(screen).toMatch(new RegExp(`marker: ${boots} boots on /dev/nbd0 / ext4 rw`))
      expect(await running.stop()).toBe(0)
    }
    expect(await sumOf(golden)).toBe(before)
  })
})
