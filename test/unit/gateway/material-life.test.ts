import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { parseConfig } from '../../../src/config/load.ts'
import { materialFamilies, materialLives } from '../../../src/gateway/material-life.ts'
import { mintAuthority, mintServer } from '../../../src/pki/mint.ts'
import { emptyCrl } from '../../../src/pki/revocation.ts'
import { temporaryFolder } from '../pki/workshop.ts'

const DAY_MS = 86_400_000

it('tells when each certificate, authority and list of a configuration ends, and a week ahead that it does', () => {
  const dir = temporaryFolder()
  const authority = mintAuthority()
  const server = mintServer(authority, { names: ['gw.example'], days: 30 })
  const put = (name: string, text: string) => writeFileSync(join(dir, name), text, { mode: 0o600 })
  put('cert.pem', server.certificatePem)
  put('ca.pem', authority.certificatePem)
  put('crl.pem', emptyCrl(authority, { days: 9 }))
  const door = { tls: '127.0.0.1:0', cert: 'cert.pem', key: 'key.pem', 'client-ca': 'ca.pem', crl: 'crl.pem' }
  const upstream = { uri: 'nbds://h/x', ca: 'absent.pem' }
  const doors = [door, { ...door, tls: '127.0.0.2:0' }, { unix: 's' }]
  const exports = [
    { name: 'x', upstream },
    { name: 'y', upstream: { file: 'disk.img' } },
  ]
  const config = parseConfig(JSON.stringify({ version: 1, doors, exports }), join(dir, 'nbdgate.yaml'))
  const nowMs = Date.now()
  const of = (atMs: number) => {
    const lives = materialLives(config, atMs)
    return { lives, families: materialFamilies(lives, atMs) }
  }
  const { lives, families } = of(nowMs)
  const days = lives.map(({ use, endsMs }) => [use, endsMs && Math.round((endsMs - nowMs) / DAY_MS)])
  expect(days).toEqual([
    ['server', 30],
    ['client-ca', 3650],
    ['crl', 9],
    ['upstream-ca', undefined],
  ])
  const [expiry, , readable] = families
  expect(expiry?.values.find(({ labels }) => labels.use === 'crl')).toEqual({
    labels: { use: 'crl', file: join(dir, 'crl.pem') },
    value: (lives[2]?.endsMs ?? 0) / 1000,
  })
  expect(readable?.values.map(({ value, labels }) => [labels.use, value])).toEqual([
    ['server', 1],
    ['client-ca', 1],
    ['crl', 1],
    ['upstream-ca', 0],
  ])
  const soonAfter = (days: number) =>
    of(nowMs + days * DAY_MS).families[1]?.values.flatMap(({ value, labels }) => (value === 1 ? [labels.use] : []))
  expect([0, 1, 3, 10, 24, 40].map(soonAfter)).toEqual([[], [], ['crl'], ['crl'], ['server', 'crl'], ['server', 'crl']])
})
