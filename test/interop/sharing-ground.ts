/** An export on a real nbd-server, behind a gateway with an admin socket; alice and bob may both write. */
import { join } from 'node:path'
import type { LeafFiles } from '../../src/pki/files.ts'
import { Opt, Rep } from '../../src/protocol/constants.ts'
import { seededFile } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { MAIN } from '../support/gateway.ts'
import { type RunResult, run } from '../support/process.ts'
import { allow, config, type Entry, tlsDoor, tlsOptions } from './configs.ts'
import { exportInfo, greeted, infoData, type RawClient } from './raw-client.ts'

export const HOST = '127.0.0.1'
export const READ_ONLY = 1 << 1
export const CAN_MULTI_CONN = 1 << 8

/** What came of a GO: transmission flags, or the reply that said no. */
export type Gone =
  | { readonly kind: 'in'; readonly client: RawClient; readonly flags: number; readonly isReadOnly: boolean }
  | { readonly kind: 'refused'; readonly client: RawClient; readonly reply: number; readonly text: string }

/** GO for `disk`, with this certificate. */
export async function enter(port: number, leaf: LeafFiles, name = 'disk'): Promise<Gone> {
  const client = await greeted({ host: HOST, port })
  await client.startTls(tlsOptions(leaf))
  return await go(client, name)
}

/** GO on a connection that haggles. */
export async function go(client: RawClient, name = 'disk'): Promise<Gone> {
  const replies = await client.option(Opt.GO, infoData(name))
  const last = replies.at(-1)
  if (last?.type !== Rep.ACK) {
    return { kind: 'refused', client, reply: last?.type ?? 0, text: last?.data.toString() ?? '' }
  }
  const { flags } = exportInfo(replies)
  return { kind: 'in', client, flags, isReadOnly: (flags & READ_ONLY) !== 0 }
}

/** GO that has to work. */
export async function entered(port: number, leaf: LeafFiles, name = 'disk'): Promise<Gone & { kind: 'in' }> {
  const gone = await enter(port, leaf, name)
  if (gone.kind !== 'in') throw new Error(`refused: ${gone.text}`)
  return gone
}

/** `nbdgate` as somebody at the machine runs it. */
export function nbdgate(...args: readonly string[]): Promise<RunResult> {
  return run([process.execPath, MAIN, ...args])
}

/** `test`, with the text of a configuration of one export. */
export const test = base
  .extend('carol', { scope: 'file' }, async ({ pki }) => pki.client('carol'))
  .extend('shared', async ({ dir, pki, nbdServer }) => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    const server = await nbdServer({ exports: { disk: { file, flush: true, fua: true, extra: 'trim = true' } } })
    const socket = join(dir, 'admin.sock')
    const text = (more: Entry = {}, whole: Entry = {}): string => {
      const rules = [allow('alice', 'write'), allow('bob', 'write'), allow('carol', 'read')]
      const disk = { name: 'disk', upstream: server.uri('disk'), allow: rules, ...more }
      return config([tlsDoor(pki)], [disk], { admin: { socket }, ...whole })
    }
    return { file, server, socket, text }
  })
