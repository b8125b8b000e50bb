/** Configurations of a gateway for tests, as data: JSON is YAML, and needs no care for quotes. */
import { readFileSync } from 'node:fs'
import type { ConnectionOptions } from 'node:tls'
import type { LeafFiles } from '../../src/pki/files.ts'
import type { TestPki } from '../support/pki.ts'

/** One entry of `doors` or `exports`, in the words of the configuration. */
export type Entry = Readonly<Record<string, unknown>>

/** The text of a configuration. */
export function config(doors: readonly Entry[], exports: readonly Entry[], more: Entry = {}): string {
  return JSON.stringify({ version: 1, doors, exports, ...more }, null, 2)
}

/** A TLS door on a free port of the loopback, with the tests' certificates. */
export function tlsDoor(pki: TestPki, more: Entry = {}): Entry {
  const files = { cert: pki.server.cert, key: pki.server.key, 'client-ca': pki.ca.cert }
  return { tls: '127.0.0.1:0', ...files, ...more }
}

/** A door without encryption on a free port of the loopback, for visitors of this host. */
export function tcpDoor(more: Entry = {}): Entry {
  return { tcp: '127.0.0.1:0', from: ['127.0.0.0/8'], ...more }
}

/** A rule for the bearer of a certificate with this common name. */
export function allow(commonName: string, rights: 'read' | 'write'): Entry {
  return { who: `cert:cn=${commonName}`, rights }
}

/** What node:tls needs to come in with this certificate. */
export function tlsOptions(leaf: LeafFiles): ConnectionOptions {
  const read = (file: string) => readFileSync(file, 'utf8')
  return { ca: read(leaf.ca), cert: read(leaf.cert), key: read(leaf.key), servername: 'localhost' }
}

/** The URI that libnbd's programs take, with the certificates of this folder. */
export function nbdsUri(port: number, exportName: string, leaf: { readonly dir: string }): string {
  return `nbds://localhost:${port}/${encodeURIComponent(exportName)}?tls-certificates=${leaf.dir}`
}
