import { describe, expect, it } from 'vitest'
import { connectConfig } from '../../../src/cli/connect.ts'
import { nearEnd } from '../../../src/cli/connect-listen.ts'
import { connectLog } from '../../../src/cli/connect-log.ts'
import { farEnd } from '../../../src/cli/connect-upstream.ts'
import { UsageError } from '../../../src/cli/errors.ts'

describe('the far end', () => {
  it.each([
    ['nbd://gw/disk', 'plaintext'],
    ['nbd+unix:///disk?socket=/tmp/s', 'plaintext'],
    ['http://gw/', 'http://'],
    ['nbds://-gw/disk', 'begins with -'],
    ['nbds://gw/disk?tls-verify-peer=0', 'always verifies'],
    ['nbds://gw/disk?tls-certificates=', 'no folder'],
    ['nbds://gw/disk?tls-certificates=%ff', '%'],
    ['nbds://gw/disk?tls-certificates=a&tls-certificates=b', 'tls-certificates'],
  ])('refuses %s', (uri, what) => {
    expect(() => farEnd(uri, {})).toThrow(UsageError)
    expect(() => farEnd(uri, {})).toThrow(what)
  })

  it('takes the certificates from the options', () => {
    const flags = { ca: '/a', cert: '/c', key: '/k' }
    expect(farEnd('nbds://gw/disk', flags)).toMatchObject({ host: 'gw', export: 'disk', tls: true, ...flags })
  })

  it('takes the certificates from a folder, as libnbd does', () => {
    const certificates = { ca: '/x y/ca-cert.pem', cert: '/x y/client-cert.pem', key: '/x y/client-key.pem' }
    expect(farEnd('nbds://gw/disk?tls-certificates=/x%20y', {})).toMatchObject(certificates)
    expect(farEnd('nbds+unix:///disk?tls-certificates=/x%20y&socket=/s', {})).toMatchObject({
      path: '/s',
      ...certificates,
    })
    expect(() => farEnd('nbds://gw/disk?tls-certificates=/x', { ca: '/a' })).toThrow(UsageError)
  })

  it('takes a number of connections from 1 to 16, and no other', () => {
    expect(farEnd('nbds://gw/disk', { connections: '8' })).toMatchObject({ connections: 8 })
    expect(farEnd('nbds://gw/disk', {})).not.toHaveProperty('connections')
    for (const connections of ['0', '17', '-1', '1.5', '8x', '']) {
      expect(() => farEnd('nbds://gw/disk', { connections }), connections).toThrow(UsageError)
    }
  })

  it('goes by SSH, with keys of SSH only', () => {
    const uri = 'nbd+ssh://me@gw:2222/disk?socket=/s'
    expect(farEnd(uri, { knownHosts: '/dev/null' })).toMatchObject({
      kind: 'ssh',
      host: 'gw',
      port: 2222,
      user: 'me',
      target: { kind: 'unix', path: '/s' },
      knownHosts: '/dev/null',
    })
    expect(() => farEnd(uri, { identity: '/dev/null/gone' })).toThrow('can not be read')
    expect(() => farEnd(uri, { identity: '/dev/null' })).toThrow('is no private key')
    expect(() => farEnd(uri, { ca: '/a' })).toThrow('certificates mean nothing')
    expect(() => farEnd('nbds://gw/disk', { identity: '/dev/null' })).toThrow('are for nbd+ssh://')
  })

  it('takes the export from the URI or the option, and no contradiction', () => {
    expect(farEnd('nbds://gw', { export: 'disk' }).export).toBe('disk')
    expect(farEnd('nbds://gw/disk', { export: 'disk' }).export).toBe('disk')
    expect(() => farEnd('nbds://gw/disk', { export: 'other' })).toThrow('different exports')
  })
})

describe('the near end', () => {
  it('is a socket for its user alone', () => {
    expect(nearEnd('unix:/tmp/s', { anywhere: false })).toMatchObject({ kind: 'unix', path: '/tmp/s', mode: 0o600 })
  })

  it.each(['127.0.0.1:0', '127.1.2.3:10809', '[::1]:0', '[::ffff:127.0.0.1]:0', 'localhost:0'])(
    'may be %s, for loopback only',
    text => {
      const door = nearEnd(text, { anywhere: false })
      expect(door).toMatchObject({ kind: 'tcp', from: [{ text: '127.0.0.0/8' }, { text: '::1/128' }] })
    },
  )

  it.each(['0.0.0.0:0', '[::]:0', '10.0.0.1:1', 'gw:1', 'localhost.example:1'])('is not %s', text => {
    expect(() => nearEnd(text, { anywhere: false })).toThrow('--insecure-listen-anywhere')
    expect(nearEnd(text, { anywhere: true })).toMatchObject({ from: [{ text: '0.0.0.0/0' }, { text: '::/0' }] })
  })

  it.each(['unix:', 'disk.sock', `unix:/${'x'.repeat(107)}`, '127.0.0.1:http'])('refuses %s', text => {
    expect(() => nearEnd(text, { anywhere: true })).toThrow(UsageError)
  })
})

describe('the configuration', () => {
  it('has the export by its name and as the default, with the rights asked for', () => {
    const door = nearEnd('unix:/tmp/s', { anywhere: false })
    const names = (uri: string) => connectConfig(door, farEnd(uri, {}), 'read').exports.map(({ name }) => name)
    expect(names('nbds://gw/disk')).toEqual(['', 'disk'])
    expect(names('nbds://gw')).toEqual([''])
    const [first] = connectConfig(door, farEnd('nbds://gw', {}), 'read').exports
    expect(first?.allow).toMatchObject([{ who: ['anyone'], rights: 'read' }])
  })
})

describe('the log', () => {
  const made = (verbose: boolean) => {
    const lines: string[] = []
    let ends = 0
    const log = connectLog({ verbose, write: line => lines.push(line), lastEnded: () => ends++ })
    return { log, lines, ends: () => ends }
  }

  it('shows state when asked to, and trouble always', () => {
    const quiet = made(false)
    quiet.log.info({}, 'draining')
    quiet.log.error({ export: 'disk', err: new Error('no connection: \u001b[31m') }, 'upstream failed')
    expect(quiet.lines).toEqual(['nbdgate: upstream failed: export disk, no connection: \\u{1b}[31m\n'])
    const loud = made(true)
    loud.log.info({ doors: [{ kind: 'unix', address: '/tmp/s' }] }, 'gateway ready')
    expect(loud.lines).toEqual(['nbdgate: gateway ready: unix:/tmp/s\n'])
  })

  it('says when the last session has ended, however it did', () => {
    const { log, ends } = made(false)
    log.info({}, 'session opened')
    log.info({}, 'session opened')
    log.warn({}, 'session ended')
    expect(ends()).toBe(0)
    log.info({}, 'session ended')
    expect(ends()).toBe(1)
  })
})
