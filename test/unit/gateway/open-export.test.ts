import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { openExport } from '../../../src/gateway/open-export.ts'
import { SessionMemory } from '../../../src/relay/session-memory.ts'

it('takes key material that has vanished since the start for trouble of the upstream, not for a bug', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'nbdgate-open-'))
  try {
    const ca = join(dir, 'gone.pem')
    const upstream = { kind: 'tcp', host: '127.0.0.1', port: 1, export: '', tls: true, ca } as const
    const opening = { name: 'a', description: undefined, upstream, rights: 'read', rule: 'x:1' } as const
    const memory = new SessionMemory()
    await expect(openExport({ ...opening, memory, structuredReplies: false, canMultiply: true })).rejects.toMatchObject(
      {
        name: 'UpstreamError',
        code: 'DIAL',
        message: `${ca}: there is no such file`,
      },
    )
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
})

it('dials no upstream with proxy-protocol for a client whose name it could not be told', async () => {
  const upstream = { kind: 'tcp', host: '127.0.0.1', port: 1, export: '', tls: false, proxyProtocol: 'v2' } as const
  const opening = { name: 'a', description: undefined, upstream, rights: 'read', rule: 'x:1' } as const
  const memory = new SessionMemory()
  const certificate = { commonName: 'a'.repeat(20_000) }
  const client = { tls: { version: 'TLSv1.3', cipher: 'TLS_AES_128_GCM_SHA256', certificate } }
  await expect(
    openExport({ ...opening, memory, client, structuredReplies: false, canMultiply: true }),
  ).rejects.toMatchObject({
    code: 'DIAL',
    message: 'the name of the client does not fit into a PROXY header',
  })
})
