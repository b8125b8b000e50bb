// What tests of SSH upstreams stand on: sshd, nbd-server behind it, and a gateway in front.
import { userInfo } from 'node:os'
import { join } from 'node:path'
import { seededFile } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import type { RunningGateway } from '../support/gateway.ts'
import { type Sshd, startSshd } from '../support/sshd.ts'
import { config } from './configs.ts'

export const SIZE_MIB = 16

/** A gateway with a Unix door, for this user alone. */
export interface SshDoor {
  readonly running: RunningGateway
  readonly socket: string
  readonly uri: string
}

let doors = 0

/** `test` with sshd, a disk, and gateways that reach it by SSH. */
export const test = base
  .extend('disk', async ({ dir }) => seededFile(join(dir, 'disk.img'), SIZE_MIB))
  /** Starts sshd with more lines in its configuration. */
  .extend('startSshd', async ({ dir }, { onCleanup }) => {
    const started: Sshd[] = []
    onCleanup(async () => {
      for (const each of started) await each.stop()
    })
    return async (...args: Parameters<typeof startSshd> extends [string, ...infer Rest] ? Rest : never) => {
      const sshd = await startSshd(dir, ...args)
      started.push(sshd)
      return sshd
    }
  })
  /** One that wants new keys in the middle of every copy, whoever asks for them. */
  .extend('sshd', async ({ startSshd }) => startSshd(['RekeyLimit 1M']))
  /** Starts a gateway with `disk` behind an sshd. */
  .extend('doorTo', async ({ dir, gateway }) => {
    return async (
      sshd: Pick<Sshd, 'port' | 'identity' | 'known'>,
      query: string,
      more: Readonly<Record<string, string | number | undefined>> = {},
      env: NodeJS.ProcessEnv = {},
    ): Promise<SshDoor> => {
      const uri = `nbd+ssh://${userInfo().username}@127.0.0.1:${sshd.port}/disk?${query}`
      const upstream = { uri, identity: sshd.identity, 'known-hosts': sshd.known('host'), ...more }
      const allow = [{ who: `uid:${userInfo().uid}`, rights: 'write' }]
      const socket = join(dir, `door-${++doors}.sock`)
      const running = await gateway(config([{ unix: socket }], [{ name: 'disk', upstream, allow }]), { env })
      return { running, socket, uri: `nbd+unix:///disk?socket=${socket}` }
    }
  })
