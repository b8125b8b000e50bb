/**
 * Every client with every server by every door: what stands behind one gateway, how each door is reached, and what each
 * client does there. The cells are those of matrix-programs.test.ts.
 */
import { copyFile, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { seededBytes, sha256 } from '../support/disk.ts'
import { run, runOk, start } from '../support/process.ts'
import { findProgram, type Program } from '../support/programs.mjs'
import { startNbdkit, startNbdServer, startQemuNbd } from '../support/servers.ts'
import { isConnectable } from '../support/wait.ts'
import { AS_NOBODY } from './fio-home.ts'

export const SIZE_MIB = 4
const MIB = 1024 * 1024

export const SERVERS = ['nbd-server', 'nbdkit', 'qemu-nbd', 'qemu-storage-daemon', 'file:'] as const
export const DOORS = ['tls', 'tcp', 'unix', 'ssh'] as const
export type Server = (typeof SERVERS)[number]
export type Door = (typeof DOORS)[number]

/** One server behind the gateway, and the file that it serves. */
export interface Behind {
  readonly server: Server
  readonly file: string
}

/** Where a client goes: a URI, qemu's options for the same, and what both need beside. */
export interface Place {
  readonly door: Door
  readonly uri: string
  readonly qemu: string
  readonly objects: readonly string[]
  /** Words that bring nbd-client there. */
  readonly list: readonly string[]
}

/** What a cell has at hand. */
export interface Cell extends Place, Behind {
  /** A folder of its own. */
  readonly dir: string
  /** A home for fio. */
  readonly home: string
}

/** A client, the program that has to be there for it, and what it does in a cell; throws when it can not. */
export interface Client {
  readonly name: string
  readonly program: Program
  readonly use: (cell: Cell) => Promise<void>
}

/** Starts each server with a disk of its own; the entries of `exports`, and how to stop. */
export async function startServers(dir: string) {
  const behind: Behind[] = []
  for (const [at, server] of SERVERS.entries()) {
    const file = join(dir, `disk-${at}.img`)
    await writeFile(file, seededBytes(at + 1, SIZE_MIB * MIB))
    behind.push({ server, file })
  }
  const [nbdServer, nbdkit, qemuNbd, daemon, own] = behind.map(({ file }) => file)
  if (nbdServer === undefined || nbdkit === undefined || qemuNbd === undefined || daemon === undefined) {
    throw new RangeError('a server without a disk')
  }
  const first = await startNbdServer(dir, 'nbd-server', {
    exports: { disk: { file: nbdServer, flush: true, fua: true } },
  })
  const second = await startNbdkit(dir, 'nbdkit', ['file', nbdkit])
  const third = await startQemuNbd(dir, 'qemu-nbd', qemuNbd, [])
  const socket = join(dir, 'daemon.sock')
  const fourth = await start(
    [
      'qemu-storage-daemon',
      ...['--blockdev', `driver=file,node-name=disk,filename=${daemon}`],
      ...['--nbd-server', `addr.type=unix,addr.path=${socket},max-connections=0`],
      ...['--export', 'type=nbd,id=e,node-name=disk,name=disk,writable=on'],
    ],
    { ready: () => isConnectable({ path: socket }) },
  )
  const upstreams = [
    first.uri('disk'),
    `nbd+unix:///?socket=${second.socket}`,
    `nbd+unix:///?socket=${third.socket}`,
    `nbd+unix:///disk?socket=${socket}`,
    { file: own },
  ]
  const allow = [{ who: 'anyone', rights: 'write' }]
  return {
    behind,
    exports: SERVERS.map((name, at) => ({ name, upstream: upstreams[at], allow, sharing: 'cluster' })),
    stop: () => Promise.all([first.stop(), second.process.stop(), third.process.stop(), fourth.stop()]),
  }
}

const imageOptions = ({ qemu, objects }: Place): readonly string[] => [...objects, '--image-opts', qemu]

/** What is on the server's disk, and that it is not what it was. */
async function isOnDisk(cell: Cell, content: Buffer): Promise<void> {
  if (!(await readFile(cell.file)).equals(content)) throw new Error('the disk has not what was written')
}

/** A disk's worth of bytes, others in each cell. */
function news(cell: Cell): Buffer {
  return seededBytes(1000 + SERVERS.indexOf(cell.server) * 10 + DOORS.indexOf(cell.door), SIZE_MIB * MIB)
}

async function isSame(file: string, other: string): Promise<void> {
  if ((await sha256(file)) !== (await sha256(other))) throw new Error('what was read is not what is on the disk')
}

const SCRIPT = `
import sys
h = nbd.NBD()
h.add_meta_context("base:allocation")
h.set_uri_allow_local_file(True)
h.connect_uri(sys.argv[1])
assert h.get_size() == int(sys.argv[2])
before = open(sys.argv[3], "rb").read()
assert h.pread(len(before), 0) == before
data = bytes(range(256)) * 256
h.pwrite(data, 1 << 20)
if h.can_flush(): h.flush()
assert h.pread(len(data), 1 << 20) == data
if h.can_zero():
    h.zero(4096, 2 << 20)
    assert h.pread(4096, 2 << 20) == bytes(4096)
if h.can_meta_context("base:allocation"):
    found = []
    h.block_status(1 << 20, 0, lambda *a: found.append(a) or 0)
    assert found
try:
    h.pread(1, h.get_size())
    raise SystemExit("a read beyond the end")
except nbd.Error:
    pass
if h.can_flush(): h.flush()
h.shutdown()
`

export const CLIENTS: readonly Client[] = [
  {
    name: 'nbdinfo',
    program: 'nbdinfo',
    use: async ({ uri, server }) => {
      const told = JSON.parse(await runOk(['nbdinfo', '--json', uri])).exports[0]
      if (told['export-size'] !== SIZE_MIB * MIB || told.is_read_only !== false) throw new Error(JSON.stringify(told))
      const listed = JSON.parse(await runOk(['nbdinfo', '--list', '--json', uri])).exports
      const names = listed.map((each: Record<string, unknown>) => each['export-name'])
      if (!names.includes(server)) throw new Error(`not listed: ${names.join()}`)
    },
  },
  {
    name: 'nbdcopy',
    program: 'nbdcopy',
    use: async cell => {
      const copy = join(cell.dir, 'copy.img')
      await runOk(['nbdcopy', cell.uri, copy])
      await isSame(copy, cell.file)
      await writeFile(copy, news(cell))
      await runOk(['nbdcopy', '--flush', copy, cell.uri])
      await isOnDisk(cell, news(cell))
    },
  },
  {
    name: 'nbdsh (libnbd for Python)',
    program: 'python3:nbd',
    use: async cell => {
      const expected = join(cell.dir, 'expected.img')
      await copyFile(cell.file, expected)
      const python = findProgram('python3:nbd') ?? 'python3'
      const argv = [python, '-c', `import nbd\n${SCRIPT}`, cell.uri, String(SIZE_MIB * MIB), expected]
      await runOk(argv)
      const page = Buffer.from(Array.from({ length: 65536 }, (_, at) => at & 0xff))
      if (!(await readFile(cell.file)).subarray(MIB, MIB + 65536).equals(page)) throw new Error('not on the disk')
    },
  },
  {
    name: 'qemu-img',
    program: 'qemu-img',
    use: async cell => {
      const copy = join(cell.dir, 'copy.img')
      await runOk(['qemu-img', 'convert', ...cell.objects, '--image-opts', '-O', 'raw', cell.qemu, copy])
      await isSame(copy, cell.file)
      await writeFile(copy, news(cell))
      const from = `driver=raw,file.driver=file,file.filename=${copy}`
      const onto = ['--target-image-opts', `driver=raw,${cell.qemu.replace(/(^|,)(?=[a-z])/g, '$1file.')}`]
      await runOk(['qemu-img', 'convert', ...cell.objects, '-n', '--image-opts', from, ...onto])
      await isOnDisk(cell, news(cell))
    },
  },
  {
    name: 'qemu-io',
    program: 'qemu-io',
    use: async cell => {
      const commands = ['write -P 0x5a 1M 64k', 'write -z 2M 64k', 'flush', 'read -P 0x5a 1M 64k', 'read -P 0 2M 64k']
      const argv = ['qemu-io', ...imageOptions(cell), ...commands.flatMap(each => ['-c', each])]
      const { code, stdout, stderr } = await run(argv)
      if (code !== 0 || /fail|error/i.test(stdout)) throw new Error(`${stdout}${stderr}`)
      const disk = await readFile(cell.file)
      if (!disk.subarray(MIB, MIB + 65536).equals(Buffer.alloc(65536, 0x5a))) throw new Error('not on the disk')
    },
  },
  {
    name: 'fio',
    program: 'fio',
    use: async cell => {
      const job = ['--name=cell', '--rw=randwrite', '--bs=4k', '--iodepth=16', '--size=1M', '--fsync=64']
      const verify = ['--verify=crc32c', '--do_verify=1', '--verify_fatal=1', '--verify_state_save=0']
      const report = join(cell.home, `${SERVERS.indexOf(cell.server)}.json`)
      // fio knows no way to name certificates; libnbd finds them in its home.
      const uri = cell.uri.replace(/\?tls-certificates=.*/, '')
      const where = ['--ioengine=nbd', `--uri=${uri}`, '--output-format=json', `--output=${report}`]
      await runOk([...AS_NOBODY, 'fio', ...where, ...job, ...verify], { cwd: cell.home, env: { HOME: cell.home } })
      const [done] = JSON.parse(await readFile(report, 'utf8')).jobs
      if (done.error !== 0 || done.read.total_ios !== 256) throw new Error(JSON.stringify(done.error))
    },
  },
  {
    name: 'nbd-client -l',
    program: 'nbd-client',
    use: async ({ list, server }) => {
      const listed = (await runOk(['nbd-client', '-l', ...list])).split('\n')
      if (!listed.includes(server)) throw new Error(`not listed: ${listed.join()}`)
    },
  },
]
