/**
 * `nbdgate demo`: the product on loopback in one command. A small authority, a sample disk behind nbd-server (or the
 * embedded file upstream where that is not installed), all doors, and the client commands to try.
 */
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Command } from 'commander'
import type { Observed } from '../admin/managed.ts'
import type { Admin } from '../admin/server.ts'
import type { Door } from '../doors/door.ts'
import { type Gateway, startGateway } from '../gateway/gateway.ts'
import { openLog } from '../observe/log.ts'
import { RecentRefusals } from '../observe/recent-refusals.ts'
import { Telemetry } from '../observe/telemetry.ts'
import { startSampleServer } from './demo-server.ts'
import { Ending } from './ending.ts'
import { loadAll } from './load.ts'

const DISK_BYTES = 64 * 1024 * 1024

/** `nbdgate demo`. */
export function demoCommand(): Command {
  return new Command('demo')
    .description('show the gateway at work on loopback, and print what to try')
    .action(async () => {
      const dir = mkdtempSync(join(tmpdir(), 'nbdgate-demo-'))
      try {
        await demo(dir)
      } finally {
        rmSync(dir, { recursive: true, force: true })
      }
    })
}

async function demo(dir: string): Promise<void> {
  const disk = join(dir, 'disk.img')
  writeFileSync(disk, 'This is the first block of the demo disk.\n')
  truncateSync(disk, DISK_BYTES)
  await makeCertificates(dir)
  const server = await startSampleServer(dir, disk)
  try {
    const upstream = server === undefined ? `{ file: ${JSON.stringify(disk)} }` : server.uri
    const file = join(dir, 'nbdgate.yaml')
    await makeSshKeys(dir)
    writeFileSync(file, configuration(upstream))
    const { config } = loadAll(file)
    const telemetry = new Telemetry()
    const log = telemetry.hear(openLog({ level: 'info' }))
    const gateway = await startGateway(config, log, { telemetry })
    const page = await openPage(gateway, telemetry)
    process.stdout.write(whatToTry(dir, gateway.doors, { page: page.address, isReal: server !== undefined }))
    // Nothing to reload; but the default action of SIGHUP would end every session.
    process.on('SIGHUP', () => {})
    await new Ending(gateway, log).done
    page.close()
  } finally {
    await server?.stop()
  }
}

/** The page, on a free port of loopback. */
async function openPage(gateway: Gateway, { events }: Telemetry): Promise<Admin> {
  const { openAdminHttp } = await import('../admin/server.ts')
  const refusals = new RecentRefusals(events)
  const observed: Observed = {
    ...gateway,
    overlays: () => gateway.overlays.list(),
    refusals: () => refusals.list(),
    listen: listener => events.listen(listener),
  }
  return await openAdminHttp({ host: '127.0.0.1', port: 0 }, observed)
}

async function makeCertificates(dir: string): Promise<void> {
  // Only here and in `certs`: node-forge is not loaded by a gateway that serves.
  const { mintAuthority, mintClient, mintServer } = await import('../pki/mint.ts')
  const { writeAuthority, writeClient, writeServer } = await import('../pki/files.ts')
  const certs = join(dir, 'certs')
  mkdirSync(certs, { mode: 0o700 })
  const authority = mintAuthority()
  writeAuthority(certs, authority)
  writeServer(certs, mintServer(authority, { names: ['localhost', '127.0.0.1', '::1'] }))
  for (const name of ['alice', 'bob']) {
    writeClient(certs, name, { ...mintClient(authority, { name }), authorityPem: authority.certificatePem })
  }
}

/** A host key, and a key for carol that one line binds to her name. */
async function makeSshKeys(dir: string): Promise<void> {
  const { mintHostKey } = await import('../pki/ssh-host-key.ts')
  const { writeHostKey } = await import('../pki/files.ts')
  writeHostKey(join(dir, 'certs'), mintHostKey('nbdgate demo'))
  const carol = mintHostKey('carol')
  writeFileSync(join(dir, 'id_carol'), carol.privateText, { mode: 0o600 })
  writeFileSync(join(dir, 'authorized_keys'), `restrict,principals="carol" ${carol.publicText}`)
}

function configuration(upstream: string): string {
  return `version: 1
doors:
  - tls: 127.0.0.1:0
    cert: certs/server-cert.pem
    key: certs/server-key.pem
    client-ca: certs/ca-cert.pem
  - ssh: 127.0.0.1:0
    host-keys: certs/ssh_host_ed25519_key
    authorized-keys: authorized_keys
  - tcp: 127.0.0.1:0
    from: [127.0.0.0/8]
  - unix: nbd.sock
    mode: "0600"
exports:
  - name: disk
    description: the demo's disk
    upstream: ${upstream}
    allow:
      - { who: cert:cn=alice, rights: write }
      - { who: cert:cn=bob, rights: read }
      - { who: ssh:user=carol, rights: write }
      - { who: "address:127.0.0.0/8", rights: read }
      - { who: "uid:${process.getuid?.() ?? 0}", rights: read }
`
}

interface Tried {
  /** Where the page is. */
  readonly page: string
  readonly isReal: boolean
}

function whatToTry(dir: string, doors: readonly Door[], { page, isReal }: Tried): string {
  const at = (kind: string): string => doors.find(door => door.kind === kind)?.address ?? ''
  const tls = (who: string): string =>
    `nbds://localhost:${at('tls').split(':').pop()}/disk?tls-certificates=${join(dir, 'certs', who)}`
  return `
nbdgate demo: a disk of 64 MiB behind ${isReal ? 'nbd-server' : 'the embedded file upstream (nbd-server is not installed)'}
  TLS   ${at('tls')}    SSH   ${at('ssh')}    TCP   ${at('tcp')}    Unix  ${at('unix')}

  Page  http://${page}/    see there who comes, and what moves

alice may write, bob may read, both by certificate; carol may write by SSH key; loopback and your own user may read without one. Try:
  nbdinfo '${tls('alice')}'
  nbdcopy --progress '${tls('bob')}' /dev/null
  nbdcopy /bin/ls '${tls('bob')}'          # refused: bob's export is read-only
  ssh -N -i ${join(dir, 'id_carol')} -p ${at('ssh').split(':').pop()} -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -L 10909:/exports/disk carol@127.0.0.1 &
  nbdinfo nbd://127.0.0.1:10909            # through carol's tunnel
  nbdinfo nbd://${at('tcp')}/disk
  nbdinfo 'nbd+unix:///disk?socket=${at('unix')}'

The log follows, one line of JSON for each session. Ctrl-C ends the demo and removes ${dir}.
`
}
