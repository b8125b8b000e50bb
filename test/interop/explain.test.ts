// `explain` says what real clients then find.
import { join } from 'node:path'
import { expect } from 'vitest'
import { seededFile } from '../support/disk.ts'
import { test } from '../support/fixtures.ts'
import { MAIN } from '../support/gateway.ts'
import { run } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { allow, config, type Entry, nbdsUri, tlsDoor } from './configs.ts'

const RULES: Readonly<Record<string, Entry>> = {
  plain: { allow: [allow('alice', 'write'), allow('bob', 'read')] },
  near: { allow: [{ who: ['cert:cn=alice', 'address:127.0.0.0/8'], rights: 'read' }] },
  far: { allow: [{ who: ['cert:cn=alice', 'address:192.0.2.0/24'], rights: 'write' }] },
  denied: { allow: [{ who: 'anyone', rights: 'write' }], deny: ['cert:cn=bob'] },
  past: { allow: [{ ...allow('alice', 'write'), until: '2020-01-01T00:00:00Z' }, allow('alice', 'read')] },
  elsewhere: { allow: [{ who: 'anyone', rights: 'write' }], doors: ['unix'] },
  nobody: {},
}

requires('nbd-server', 'nbdinfo')('explain', () => {
  test('says of each visitor and export what nbdinfo then finds', async ({ dir, nbdServer, gateway, pki }) => {
    const file = await seededFile(join(dir, 'disk.img'), 1)
    const names = Object.keys(RULES)
    const server = await nbdServer({ exports: Object.fromEntries(names.map(name => [name, { file }])) })
    const exports = names.map(name => ({ name, upstream: server.uri(name), ...RULES[name] }))
    const running = await gateway(config([tlsDoor(pki), { unix: './nbd.sock' }], exports))
    const port = running.port('tls')
    const found: string[] = []
    for (const [who, leaf] of [['alice', pki.alice] as const, ['bob', pki.bob] as const]) {
      for (const name of [...names, 'absent']) {
        const asked = ['--export', name, '--as', `cert:cn=${who}`, '--from', '127.0.0.1']
        const explained = await run([process.execPath, MAIN, 'explain', '-c', running.configFile, ...asked])
        const info = await run(['nbdinfo', nbdsUri(port, name, leaf)])
        const seen = info.code !== 0 ? 'refused' : info.stdout.includes('is_read_only: true') ? 'read' : 'write'
        const said = explained.code === 0 ? /^allowed: (read|write)/.exec(explained.stdout)?.[1] : 'refused'
        expect({ who, name, said, code: explained.code }).toEqual({
          who,
          name,
          said: seen,
          code: seen === 'refused' ? 1 : 0,
        })
        found.push(seen)
      }
    }
    expect(new Set(found)).toEqual(new Set(['read', 'write', 'refused']))
  })
})
