import { once } from 'node:events'
import { connect } from 'node:net'
import { describe, expect } from 'vitest'
import { test } from '../support/fixtures.ts'
import { run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'

requires('nbdinfo', 'nbdkit')('visitors whose handshake fails', () => {
  describe('at a door for four connections of one address', () => {
    test('give their place back', async ({ gateway, nbdkit, pki }) => {
      const socket = await nbdkit('memory', '1M')
      const running = await gateway(`version: 1
doors:
  - tls: 127.0.0.1:0
    cert: ${pki.server.cert}
    key: ${pki.server.key}
    client-ca: ${pki.ca.cert}
exports:
  - name: disk
    upstream: nbd+unix:///?socket=${socket}
    allow: [{ who: "cert:cn=alice", rights: write }]
limits: { sessions-per-address: 4 }
`)
      const uri = (dir: string): string => `nbds://localhost:${running.port('tls')}/disk?tls-certificates=${dir}`
      // Client flags and STARTTLS, then what is no ClientHello: OpenSSL ends it, long before there is a certificate.
      for (let visit = 1; visit <= 12; visit++) {
        const raw = connect(running.port('tls'), '127.0.0.1').on('error', () => {})
        raw.write(Buffer.from('0000000349484156454f50540000000500000000', 'hex'))
        raw.on('data', chunk => chunk.length >= 20 && raw.write('no ClientHello'.repeat(10)))
        await once(raw, 'close', { signal: AbortSignal.timeout(5000) })
        await running.waitForLog(line => line.conn === visit && line.msg === 'tls failed')
      }
      for (let visit = 13; visit <= 24; visit++) {
        // Mallory comes with a certificate of another authority.
        expect((await run(['nbdinfo', uri(pki.mallory.dir)])).code).not.toBe(0)
        await running.waitForLog(line => line.conn === visit && line.msg === 'tls failed')
      }
      expect(await runOk(['nbdinfo', '--size', uri(pki.alice.dir)])).toBe('1048576\n')
      expect(running.log().filter(line => line.msg === 'turned away')).toEqual([])
    })
  })
})
