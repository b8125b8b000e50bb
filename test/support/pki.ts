import { join } from 'node:path'
import {
  authorityFiles,
  type KeyedCertificate,
  type LeafFiles,
  writeAuthority,
  writeClient,
  writeServer,
} from '../../src/pki/files.ts'
import { mintAuthority, mintClient, mintServer } from '../../src/pki/mint.ts'
import { makeTempFolder } from './temp.ts'

/**
 * Certificates for tests. Each leaf's `dir` is what nbdkit, libnbd and qemu take. The CA file in everybody's folder is the
 * true authority's: somebody who comes with a false certificate does believe the true server.
 */
export interface TestPki {
  readonly dir: string
  /** The authority's certificate and key. */
  readonly ca: { readonly cert: string; readonly key: string }
  /** For localhost, 127.0.0.1 and ::1. */
  readonly server: LeafFiles
  /** Common names `alice` and `bob`. */
  readonly alice: LeafFiles
  readonly bob: LeafFiles
  /** Another authority that nobody trusts, and what it issued: a client, and a server for the same names. */
  readonly rogueCa: { readonly cert: string; readonly key: string }
  readonly mallory: LeafFiles
  readonly rogueServer: LeafFiles
  /** Issues one more client certificate; options as for `mintClient`. */
  client(name: string, options?: Omit<Parameters<typeof mintClient>[1], 'name'>): LeafFiles
}

const SERVER_NAMES = ['localhost', '127.0.0.1', '::1']

/** Mints everything into a temporary folder; ECDSA P-256, a matter of milliseconds. */
export async function makePki(): Promise<TestPki> {
  const dir = await makeTempFolder()
  const rogueDir = join(dir, 'rogue')
  const authority = mintAuthority({ name: 'nbdgate test authority' })
  const rogue = mintAuthority({ name: 'rogue authority' })
  writeAuthority(dir, authority)
  writeAuthority(rogueDir, rogue)
  const writeNamed = (name: string, leaf: KeyedCertificate): LeafFiles =>
    writeClient(dir, name, { ...leaf, authorityPem: authority.certificatePem })
  const client: TestPki['client'] = (name, options = {}) =>
    writeNamed(name, mintClient(authority, { ...options, name }))
  return {
    dir,
    ca: authorityFiles(dir),
    server: writeServer(dir, mintServer(authority, { names: SERVER_NAMES })),
    alice: client('alice'),
    bob: client('bob'),
    rogueCa: authorityFiles(rogueDir),
    mallory: writeNamed('mallory', mintClient(rogue, { name: 'mallory' })),
    rogueServer: writeServer(rogueDir, mintServer(rogue, { names: SERVER_NAMES })),
    client,
  }
}
