/** A program of the table; `python3:nbd` is a Python that can import the module `nbd`. */
export type Program =
  | 'nbd-server'
  | 'nbd-client'
  | 'nbdkit'
  | 'qemu-nbd'
  | 'qemu-img'
  | 'qemu-io'
  | 'qemu-storage-daemon'
  | 'nbdinfo'
  | 'nbdcopy'
  | 'python3:nbd'
  | 'fio'
  | 'mke2fs'
  | 'e2fsck'
  | 'debugfs'
  | 'cryptsetup'
  | 'openssl'
  | 'certtool'
  | 'psktool'
  | 'socat'
  | 'sshd'
  | 'ssh'
  | 'ssh-keygen'
  | 'ssh-agent'
  | 'script'
  | 'haproxy'
  | 'etcd'
  | 'etcdctl'
  | 'bash'
  | 'zsh'
  | 'fish'
  | 'mandoc'
  | 'dpkg-deb'
  | 'lintian'
  | 'promtool'
  | 'prometheus'
  | 'systemd-analyze'
  | 'chromium'
  | 'faketime'
  | KernelProgram

/** What the test with a real kernel drives beside them. */
export type KernelProgram = 'qemu-system-x86_64' | 'busybox' | 'modprobe' | 'cpio'

/** Program → Debian package. */
export const packages: Readonly<Record<Exclude<Program, KernelProgram>, string>>
export const kernelPackages: Readonly<Record<KernelProgram, string>>

/** Whether `CI` is set to something that does not mean no. */
export function isCi(env?: NodeJS.ProcessEnv): boolean

/** The path of a program in PATH or in the system's own folders; undefined if it is not there. */
export function findProgram(name: string): string | undefined

/** Those of a table's programs that are not there. */
export function missingPrograms(table?: Readonly<Record<string, string>>): Program[]

/** The packages that bring these programs, each once, in order. */
export function packagesOf(names: readonly string[]): string[]
