// Every client with every server by every door, behind one gateway. Each cell reads, writes and reads again, or lists.
// MATRIX_PRINT=1 prints the table of README.
import { chmod, mkdir, readFile } from 'node:fs/promises'
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, it, onTestFailed } from 'vitest'
import { type RunningGateway, startGateway } from '../support/gateway.ts'
import { makePki, type TestPki } from '../support/pki.ts'
import { runOk, type Started, start } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { makeTempFolder, removeTempFolder } from '../support/temp.ts'
import { freePort, isConnectable } from '../support/wait.ts'
import { config, tcpDoor, tlsDoor } from './configs.ts'
import { home } from './fio-home.ts'
import {
  type Behind,
  CLIENTS,
  DOORS,
  type Door,
  type Place,
  SERVERS,
  type Server,
  startServers,
} from './program-matrix.ts'

/** Cells of a server that went well, by client: the doors. */
const done = new Map<string, Map<Server, Door[]>>(CLIENTS.map(({ name }) => [name, new Map()]))

requires(
  'nbd-server',
  'nbdkit',
  'qemu-nbd',
  'qemu-storage-daemon',
  'ssh',
  ...CLIENTS.map(client => client.program),
)('every client with every server by every door', () => {
  const stops: (() => unknown)[] = []
  let dir = ''
  let fioHome = ''
  let behind: readonly Behind[] = []
  let gateway: RunningGateway | undefined
  let places: (door: Door, server: Server) => Place = () => {
    throw new Error('not before beforeAll')
  }

  beforeAll(async () => {
    dir = await makeTempFolder()
    stops.push(() => removeTempFolder(dir))
    const pki = await makePki()
    stops.push(() => removeTempFolder(pki.dir))
    const servers = await startServers(dir)
    behind = servers.behind
    stops.push(servers.stop)
    // fio runs as somebody else, and goes to the sockets in here.
    fioHome = await home(dir, pki.alice)
    await chmod(dir, 0o755)
    const socket = join(dir, 'door.sock')
    const ssh = await sshFiles(dir)
    const doors = [tlsDoor(pki), tcpDoor(), { unix: socket, mode: '0666' }, ssh.door]
    const running = await startGateway(
      dir,
      'nbdgate',
      config(doors, servers.exports, { limits: { 'sessions-per-address': 500 } }),
    )
    gateway = running
    stops.push(() => running.stop())
    const tunnel = await ssh.tunnel(running.port('ssh'))
    stops.push(() => tunnel.process.stop())
    places = placesOf(running, pki, { socket, tunnel: tunnel.port })
  })
  afterAll(async () => {
    for (const stop of stops.reverse()) await stop()
  })

  for (const client of CLIENTS) {
    for (const door of DOORS) {
      it(`${client.name} by ${door}: ${SERVERS.join(', ')}`, async () => {
        onTestFailed(() => console.error(gateway?.stderr().split('\n').slice(-20).join('\n')))
        const cells = behind.map(async each => {
          const own = join(dir, `${CLIENTS.indexOf(client)}-${door}-${SERVERS.indexOf(each.server)}`)
          await mkdir(own)
          await client.use({ ...each, ...places(door, each.server), dir: own, home: fioHome })
          await removeTempFolder(own)
          const doors = done.get(client.name)
          doors?.set(each.server, [...(doors.get(each.server) ?? []), door])
        })
        const failed = (await Promise.allSettled(cells)).flatMap((cell, at) =>
          cell.status === 'rejected' ? [`${behind[at]?.server}: ${cell.reason}`] : [],
        )
        expect(failed).toEqual([])
      })
    }
  }

  it('is what README has', async () => {
    const table = markdown()
    if (process.env.MATRIX_PRINT !== undefined) console.log(table)
    expect(await readFile(new URL('../../README.md', import.meta.url), 'utf8')).toContain(table)
  })
})

/** The table: clients down, servers across, in each cell the doors by which they work together. */
function markdown(): string {
  const rows = CLIENTS.map(({ name }) => {
    const cells = SERVERS.map(server => (done.get(name)?.get(server) ?? []).join(' '))
    return `| \`${name}\` | ${cells.join(' | ')} |`
  })
  return [
    `| | ${SERVERS.map(each => `\`${each}\``).join(' | ')} |`,
    `|---|${SERVERS.map(() => '---|').join('')}`,
    ...rows,
  ].join('\n')
}

function placesOf(running: RunningGateway, pki: TestPki, { socket, tunnel }: { socket: string; tunnel: number }) {
  const [tls, tcp] = [running.port('tls'), running.port('tcp')]
  const { ca, cert, key, dir } = pki.alice
  const inet = (port: number, name: string) =>
    `driver=nbd,export=${name},server.type=inet,server.host=127.0.0.1,server.port=${port}`
  const nbdUri = (port: number, name: string) => `nbd://127.0.0.1:${port}/${name}`
  return (door: Door, server: Server): Place => {
    const name = encodeURIComponent(server)
    switch (door) {
      case 'tls': {
        const files = ['-certfile', cert, '-keyfile', key, '-cacertfile', ca, '-tlshostname', 'localhost']
        return {
          door,
          uri: `nbds://localhost:${tls}/${name}?tls-certificates=${dir}`,
          qemu: `driver=nbd,export=${server},server.type=inet,server.host=localhost,server.port=${tls},tls-creds=t`,
          objects: ['--object', `tls-creds-x509,id=t,dir=${dir},endpoint=client`],
          list: ['127.0.0.1', String(tls), ...files],
        }
      }
      case 'tcp':
        return { door, uri: nbdUri(tcp, name), qemu: inet(tcp, server), objects: [], list: ['127.0.0.1', String(tcp)] }
      case 'unix':
        return {
          door,
          uri: `nbd+unix:///${name}?socket=${socket}`,
          qemu: `driver=nbd,export=${server},server.type=unix,server.path=${socket}`,
          objects: [],
          list: ['-unix', socket],
        }
      // No client but nbdgate's own speaks SSH: the real ssh carries it.
      case 'ssh':
        return {
          door,
          uri: nbdUri(tunnel, name),
          qemu: inet(tunnel, server),
          objects: [],
          list: ['127.0.0.1', String(tunnel)],
        }
      default:
        return door satisfies never
    }
  }
}

async function sshFiles(dir: string) {
  const key = async (name: string) => {
    await runOk(['ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', join(dir, name)])
    return { file: join(dir, name), line: (await readFile(join(dir, `${name}.pub`), 'utf8')).trim() }
  }
  const [host, user] = [await key('host'), await key('user')]
  const [authorized, known] = [join(dir, 'authorized_keys'), join(dir, 'known_hosts')]
  await runOk([
    'sh',
    '-c',
    'printf "%s\\n" "$1" > "$2"; printf "nbdgate %s\\n" "$3" > "$4"',
    'sh',
    `restrict ${user.line}`,
    authorized,
    host.line,
    known,
  ])
  const quiet = ['-F', 'none', '-o', 'LogLevel=ERROR', '-o', 'IdentitiesOnly=yes', '-o', 'BatchMode=yes']
  const trust = ['-o', `UserKnownHostsFile=${known}`, '-o', 'HostKeyAlias=nbdgate', '-i', user.file]
  return {
    door: { ssh: '127.0.0.1:0', 'host-keys': [host.file], 'authorized-keys': authorized },
    /** A port that leads through the door. */
    tunnel: async (door: number): Promise<{ port: number; process: Started }> => {
      const port = await freePort()
      const forward = ['-N', '-L', `127.0.0.1:${port}:nbd:10809`, `${userInfo().username}@127.0.0.1`]
      const process = await start(['ssh', ...quiet, ...trust, '-p', String(door), ...forward], {
        ready: () => isConnectable({ host: '127.0.0.1', port }),
      })
      return { port, process }
    },
  }
}
