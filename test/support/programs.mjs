// The programs that the interop tests drive, and the Debian packages they come in. Plain JavaScript: it runs on a bare
// Node before anything is built or installed. As a command (npm's pretest) it installs what is missing where it may
// (root, Debian), and says what to type where it may not.
import { spawnSync } from 'node:child_process'
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** Program → Debian package. `python3:nbd` is a Python that can import the module `nbd`. */
export const packages = {
  'nbd-server': 'nbd-server',
  'nbd-client': 'nbd-client',
  nbdkit: 'nbdkit',
  'qemu-nbd': 'qemu-utils',
  'qemu-img': 'qemu-utils',
  'qemu-io': 'qemu-utils',
  'qemu-storage-daemon': 'qemu-system-common',
  nbdinfo: 'libnbd-bin',
  nbdcopy: 'libnbd-bin',
  'python3:nbd': 'python3-libnbd',
  fio: 'fio',
  mke2fs: 'e2fsprogs',
  e2fsck: 'e2fsprogs',
  debugfs: 'e2fsprogs',
  cryptsetup: 'cryptsetup-bin',
  openssl: 'openssl',
  certtool: 'gnutls-bin',
  psktool: 'gnutls-bin',
  socat: 'socat',
  sshd: 'openssh-server',
  ssh: 'openssh-client',
  'ssh-keygen': 'openssh-client',
  'ssh-agent': 'openssh-client',
  script: 'bsdutils',
  haproxy: 'haproxy',
  etcd: 'etcd-server',
  etcdctl: 'etcd-client',
  bash: 'bash',
  zsh: 'zsh',
  fish: 'fish',
  mandoc: 'mandoc',
  'dpkg-deb': 'dpkg',
  lintian: 'lintian',
  promtool: 'prometheus',
  prometheus: 'prometheus',
  'systemd-analyze': 'systemd',
  chromium: 'chromium',
  faketime: 'faketime',
}

/** What the test with a real kernel drives beside them. */
export const kernelPackages = {
  'qemu-system-x86_64': 'qemu-system-x86',
  busybox: 'busybox-static',
  modprobe: 'kmod',
  cpio: 'cpio',
}

/** System administration's programs live there, and not everybody's PATH has it. */
const systemFolders = ['/usr/local/sbin', '/usr/sbin', '/sbin', '/usr/bin', '/bin']

const updateTimeoutMs = 120_000
const installTimeoutMs = 240_000
const probeTimeoutMs = 10_000

/** Whether this is a machine that must not let anything slip: `CI` is set to something that does not mean no. */
export function isCi(env = process.env) {
  return !['', '0', 'false', undefined].includes(env.CI)
}

function isExecutableFile(path) {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

function candidates(program) {
  const folders = (process.env.PATH ?? '').split(delimiter).filter(folder => folder !== '')
  return [...new Set([...folders, ...systemFolders])].map(folder => join(folder, program)).filter(isExecutableFile)
}

function canImport(python, module) {
  return spawnSync(python, ['-c', `import ${module}`], { stdio: 'ignore', timeout: probeTimeoutMs }).status === 0
}

/** The path of a program in PATH or in the system's own folders; undefined if it is not there. */
export function findProgram(name) {
  const [program, module] = name.split(':')
  // Debian's modules belong to Debian's Python, which need not be the first in PATH.
  return candidates(program).find(path => module === undefined || canImport(path, module))
}

/** Those of a table's programs that are not there. */
export function missingPrograms(table = packages) {
  return Object.keys(table).filter(name => findProgram(name) === undefined)
}

/** The packages that bring these programs, each once, in order. */
export function packagesOf(names) {
  return [...new Set(names.map(name => packages[name] ?? kernelPackages[name] ?? name))].sort()
}

const isDebian = () => existsSync('/etc/debian_version') && findProgram('apt-get') !== undefined

/** Runs apt-get, its output to a file; what went wrong. */
export function aptGet(args, log, timeout, cwd = undefined) {
  const output = openSync(log, 'a')
  const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive', LC_ALL: 'C' }
  try {
    // Somebody else may hold the package database for a moment, as unattended-upgrades does.
    const options = ['-o', 'DPkg::Lock::Timeout=60']
    const { error, signal, status } = spawnSync('apt-get', [...options, ...args], {
      env,
      stdio: ['ignore', output, output],
      timeout,
      cwd,
    })
    if (error !== undefined) return error.code === 'ETIMEDOUT' ? `took longer than ${timeout / 1000} s` : error.message
    return status === 0 ? undefined : `ended with ${signal ?? status}`
  } finally {
    closeSync(output)
  }
}

function install(wanted) {
  const folder = mkdtempSync(join(tmpdir(), 'nbdgate-apt-'))
  const log = join(folder, 'log')
  try {
    const updateTrouble = aptGet(['update'], log, updateTimeoutMs)
    // A failed update is not the end: the lists that are there may do.
    const trouble = aptGet(['install', '-y', '--no-install-recommends', ...wanted], log, installTimeoutMs)
    if (trouble === undefined) return
    const tail = readFileSync(log, 'utf8').trimEnd().split('\n').slice(-30).join('\n')
    console.error(tail)
    if (updateTrouble !== undefined) console.error(`apt-get update ${updateTrouble}`)
    console.error(`apt-get install ${trouble}`)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Installs or explains; the exit code. Missing programs are an error only in CI: at a desk their tests are skipped. */
export function providePrograms(table = packages) {
  const missing = missingPrograms(table)
  if (missing.length === 0) return 0
  const wanted = packagesOf(missing)
  const mayInstall = isDebian() && process.getuid?.() === 0
  if (mayInstall) {
    console.log(`installing ${wanted.join(' ')} with apt-get: the tests drive ${missing.join(', ')}`)
    install(wanted)
  } else {
    console.log(`not installed: ${missing.join(', ')}; their tests are skipped. To install them on Debian or Ubuntu:`)
    console.log(`  sudo apt-get install -y --no-install-recommends ${wanted.join(' ')}`)
  }
  const stillMissing = missingPrograms(table)
  if (stillMissing.length === 0) return 0
  if (isCi()) {
    console.error(`CI is set and these programs are missing: ${stillMissing.join(', ')}`)
    return 1
  }
  if (mayInstall) console.log(`still missing: ${stillMissing.join(', ')}; their tests are skipped`)
  return 0
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url))
  process.exit(providePrograms())
