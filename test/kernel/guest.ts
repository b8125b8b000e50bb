/** A machine of its own with a real kernel, emulated by qemu, that reaches this machine's loopback as 10.0.2.2. */
import { chmod, copyFile, mkdir, symlink, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Kernel } from '../support/kernel.mjs'
import { runOk, start } from '../support/process.ts'
import { findProgram } from '../support/programs.mjs'

/** How this machine is called in the guest. */
export const HOST = '10.0.2.2'

const NETBOOT = fileURLToPath(new URL('../../config/netboot', import.meta.url))
const MEMORY_MIB = 192
/** An emulated machine on a busy one. */
const BOOT_BOUND_MS = 120_000
const APPLETS = [
  'sh',
  'cat',
  'cmp',
  'dd',
  'echo',
  'insmod',
  'mkdir',
  'mount',
  'poweroff',
  'sha256sum',
  'sync',
  'umount',
]

/** The netboot kit's initramfs for a kernel, with the certificates of a folder if there is one. */
export async function makeInitramfs(output: string, { version, root }: Kernel, certs?: string): Promise<void> {
  const which = ['--kernel', version, '--root', root, '--output', output]
  await runOk([join(NETBOOT, 'make-initramfs.sh'), ...which, ...(certs === undefined ? [] : ['--certs', certs])], {
    timeoutMs: BOOT_BOUND_MS,
  })
}

/**
 * An ext4 image with a root file system: busybox, the programs named, with what they need, further files, and `init`, a
 * shell script.
 */
export async function makeRoot(
  image: string,
  options: { readonly init: string; readonly programs?: readonly string[]; readonly files?: Record<string, string> },
): Promise<void> {
  const tree = `${image}.tree`
  for (const folder of ['bin', 'sbin', 'dev', 'proc', 'sys', 'run', 'mnt', 'tmp', 'etc']) {
    await mkdir(join(tree, folder), { recursive: true })
  }
  const copy = async (from: string, to: string): Promise<void> => {
    await mkdir(dirname(join(tree, to)), { recursive: true })
    await copyFile(from, join(tree, to))
  }
  await copy(pathOf('busybox'), 'bin/busybox')
  for (const applet of APPLETS) await symlink('busybox', join(tree, 'bin', applet))
  for (const program of options.programs ?? []) {
    const path = pathOf(program)
    await copy(path, `sbin/${program}`)
    for (const [library] of (await runOk(['ldd', path])).matchAll(/\/[^ )]+(?= \()/g)) await copy(library, library)
  }
  for (const [to, from] of Object.entries(options.files ?? {})) await copy(from, to)
  await writeFile(join(tree, 'sbin/init'), `#!/bin/sh\nexport PATH=/bin:/sbin\n${options.init}\npoweroff -f\n`)
  await chmod(join(tree, 'sbin/init'), 0o755)
  await runOk(['mke2fs', '-q', '-F', '-t', 'ext4', '-d', tree, image, '48M'])
}

/** Boots the kernel with an initramfs and a command line; what it printed until it went off. Rejects after the bound. */
export async function boot(kernel: Kernel, initramfs: string, words: readonly string[]): Promise<string> {
  const line = ['console=ttyS0', 'quiet', 'panic=-1', ...words].join(' ')
  const machine = ['-accel', 'tcg', '-m', String(MEMORY_MIB), '-nographic', '-no-reboot', '-nodefaults']
  const network = ['-netdev', 'user,id=net', '-device', 'virtio-net-pci,netdev=net,romfile=', '-serial', 'stdio']
  const files = ['-kernel', kernel.image, '-initrd', initramfs, '-append', line]
  const guest = await start([pathOf('qemu-system-x86_64'), ...machine, ...network, ...files], { ready: () => true })
  try {
    await guest.waitForExit(BOOT_BOUND_MS)
  } catch (cause) {
    throw new Error(`the guest does not end: ${guest.stdout()}`, { cause })
  } finally {
    guest.kill('SIGKILL')
  }
  return guest.stdout()
}

function pathOf(program: string): string {
  const path = findProgram(program)
  if (path === undefined) throw new Error(`${program} is not there`)
  return path
}
