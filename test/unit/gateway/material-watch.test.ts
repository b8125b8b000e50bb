import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { parseConfig } from '../../../src/config/load.ts'
import { watchMaterial } from '../../../src/gateway/material-watch.ts'
import { mintAuthority, mintServer } from '../../../src/pki/mint.ts'
import { emptyCrl } from '../../../src/pki/revocation.ts'
import { temporaryFolder } from '../pki/workshop.ts'

const DAY_MS = 86_400_000

beforeEach(() => vi.useFakeTimers({ now: Date.parse('2026-06-01T00:00:00Z') }))
afterEach(() => vi.useRealTimers())

it('says once that a list will end, and once that it has ended, and nothing after the watch', () => {
  const dir = temporaryFolder()
  const authority = mintAuthority()
  const server = mintServer(authority, { names: ['gw.example'] })
  const put = (name: string, text: string) => writeFileSync(join(dir, name), text, { mode: 0o600 })
  put('cert.pem', server.certificatePem)
  put('key.pem', server.privateKeyPem)
  put('ca.pem', authority.certificatePem)
  put('crl.pem', emptyCrl(authority, { days: 9 }))
  const door = { tls: '127.0.0.1:0', cert: 'cert.pem', key: 'key.pem', 'client-ca': 'ca.pem', crl: 'crl.pem' }
  const config = parseConfig(JSON.stringify({ version: 1, doors: [door], exports: [] }), join(dir, 'nbdgate.yaml'))
  const lines: [string, unknown, string][] = []
  const write = (level: string) => (facts: object, message: string) =>
    void lines.push([level, Object.values(facts)[0], message])
  const log = { debug: write('debug'), info: write('info'), warn: write('warn'), error: write('error') }

  const unwatch = watchMaterial(() => config, log)
  vi.advanceTimersByTime(DAY_MS)
  expect(lines).toEqual([])
  vi.advanceTimersByTime(7 * DAY_MS)
  expect(lines).toEqual([['warn', expect.stringContaining('ends on 2026-06-10T00:00:00.000Z'), 'key material']])
  vi.advanceTimersByTime(7 * DAY_MS)
  expect(lines.slice(1)).toEqual([
    ['error', expect.stringContaining('expired on 2026-06-10T00:00:00.000Z'), 'key material'],
  ])

  put('crl.pem', emptyCrl(authority, { days: 8 }))
  unwatch()
  vi.advanceTimersByTime(30 * DAY_MS)
  expect(lines).toHaveLength(2)
  expect(vi.getTimerCount()).toBe(0)
})
