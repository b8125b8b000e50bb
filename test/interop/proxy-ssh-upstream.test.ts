// A PROXY header on the way out through SSH: the channel begins with it.
import { expect } from 'vitest'
import { runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { config, tcpDoor } from './configs.ts'
import { test } from './ssh-ground.ts'

requires(
  'sshd',
  'ssh-keygen',
  'nbdinfo',
  'nbdcopy',
)('an upstream with proxy-protocol: v2 behind sshd', () => {
  test('is told that a client at a Unix socket has no address: that of the balancer counts', async ({
    disk,
    sshd,
    gateway,
    doorTo,
  }) => {
    const entry = { name: 'disk', upstream: { file: disk }, allow: [{ who: 'address:127.0.0.1', rights: 'read' }] }
    const far = await gateway(config([tcpDoor({ 'proxy-protocol': ['127.0.0.1'] })], [entry]))
    const { uri } = await doorTo(sshd, `port=${far.port('tcp')}`, { 'proxy-protocol': 'v2' })
    await runOk(['nbdinfo', uri])
    const opened = await far.waitForLog(({ msg }) => msg === 'session opened')
    expect(opened).toMatchObject({ peer: expect.stringMatching(/^127\.0\.0\.1:/), who: 'address:127.0.0.1' })
    expect(opened).not.toHaveProperty('via')
  })
})
