// The netboot kit, but for the boot itself, which test/kernel does: what a client's root must not do to its network.
import { mkdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect } from 'vitest'
import { test } from '../support/fixtures.ts'
import { run } from '../support/process.ts'

const KIT = fileURLToPath(new URL('../../config/netboot', import.meta.url))

/** Files of a root file system; a value of `->` is a link to nowhere. */
type Tree = Readonly<Record<string, string>>

const GOOD: Tree = {
  'etc/network/interfaces': 'auto lo\niface lo inet loopback\n# auto eth0\nauto eth0\niface eth0 inet manual\n',
  'etc/fstab': '/dev/nbd0 / ext4 ro 0 0\ntmpfs /tmp tmpfs defaults 0 0\n',
  'etc/nbd-client': 'KILLALL="false"\n',
  'etc/systemd/system/multi-user.target.wants/systemd-networkd.service': '->',
  'etc/systemd/network/20-wired.network': '[Match]\nName=en*\n[Network]\nDHCP=yes\nKeepConfiguration=yes\n',
  'etc/systemd/system/multi-user.target.wants/NetworkManager.service': '->',
  'etc/NetworkManager/conf.d/root.conf': '[keyfile]\nunmanaged-devices=interface-name:eth0\n',
}

const BAD: readonly (readonly [what: string, tree: Tree, file: string, says: RegExp])[] = [
  [
    'ifupdown that configures the card',
    { 'etc/network/interfaces': 'allow-hotplug eth0\niface eth0 inet dhcp\n' },
    'etc/network/interfaces',
    /eth0 .*`manual` instead of `dhcp`/,
  ],
  [
    'the same in a file of its own',
    { 'etc/network/interfaces.d/lan': 'auto ens3\niface ens3 inet static\n  address 192.0.2.9/24\n' },
    'etc/network/interfaces.d/lan',
    /ens3 .*`static`/,
  ],
  ['a link that stops the network', { 'etc/rc6.d/K05networking': '->' }, 'etc/rc6.d/K05networking', /at shutdown/],
  [
    'networkd that takes the address away',
    { 'etc/systemd/network/20-wired.network': '[Network]\nDHCP=yes\n# KeepConfiguration=yes\n' },
    'etc/systemd/network/20-wired.network',
    /KeepConfiguration=yes/,
  ],
  [
    'NetworkManager that manages the card',
    { 'etc/NetworkManager/conf.d/root.conf': '[main]\nplugins=keyfile\n' },
    'etc/NetworkManager/NetworkManager.conf',
    /unmanaged-devices/,
  ],
  ['nbd-client that is killed', { 'etc/nbd-client': 'KILLALL=true\n' }, 'etc/nbd-client', /KILLALL="false"/],
  [
    'swap over the network',
    { 'etc/fstab': '/dev/nbd0 / ext4 ro 0 0\n/dev/nbd1 none swap sw 0 0\n' },
    'etc/fstab',
    /can deadlock/,
  ],
  ['another root', { 'etc/fstab': 'UUID=1234 / ext4 errors=remount-ro 0 1\n' }, 'etc/fstab', /UUID=1234/],
]

async function plant(root: string, tree: Tree): Promise<void> {
  for (const [name, content] of Object.entries(tree)) {
    const path = join(root, name)
    await mkdir(dirname(path), { recursive: true })
    await (content === '->' ? symlink('/nowhere', path) : writeFile(path, content))
  }
}

const checkRoot = (...args: readonly string[]) => run(['sh', join(KIT, 'check-root.sh'), ...args])

describe('check-root.sh', () => {
  test('finds nothing in a root that leaves its network alone', async ({ dir }) => {
    await plant(dir, GOOD)
    expect(await checkRoot(dir)).toMatchObject({ code: 0, stdout: '', stderr: '' })
  })

  for (const [what, tree, file, says] of BAD) {
    test(`finds ${what}`, async ({ dir }) => {
      await plant(dir, { ...GOOD, ...tree })
      const { code, stdout } = await checkRoot(dir)
      expect({ code, lines: stdout.trim().split('\n') }).toEqual({ code: 1, lines: [expect.stringMatching(says)] })
      expect(stdout.startsWith(`${file}: `)).toBe(true)
    })
  }

  test('says how it is used', async () => {
    expect(await checkRoot('/does/not/exist')).toMatchObject({ code: 2, stderr: expect.stringContaining('usage') })
  })
})

describe('make-initramfs.sh', () => {
  test('says what is missing', async ({ dir }) => {
    const make = (...args: readonly string[]) => run(['sh', join(KIT, 'make-initramfs.sh'), ...args])
    expect(await make('--kernel', '1.2.3')).toMatchObject({ code: 1, stderr: expect.stringContaining('--output') })
    const output = join(dir, 'initrd')
    expect(await make('--kernel', '1.2.3', '--root', dir, '--output', output)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`${dir}/lib/modules/1.2.3 is not there`),
    })
    expect(await make('--modules')).toMatchObject({ code: 1, stderr: expect.stringContaining('wants a value') })
  })
})
