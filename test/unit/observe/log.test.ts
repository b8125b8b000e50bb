import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { ConfigError } from '../../../src/config/errors.ts'
import { openLog } from '../../../src/observe/log.ts'
import { MaterialError } from '../../../src/pki/errors.ts'
import { ProtocolError } from '../../../src/protocol/errors.ts'
import { UpstreamError } from '../../../src/upstreams/errors.ts'

let dir = ''
let file = ''
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'nbdgate-log-'))
  file = join(dir, 'gateway.log')
})
afterEach(() => rmSync(dir, { recursive: true, force: true }))

const text = (): string => readFileSync(file, 'utf8')
const lines = (): unknown[] =>
  text()
    .split('\n')
    .filter(line => line !== '')
    .map(line => JSON.parse(line))

describe('the log', () => {
  it('is one line of JSON for each message, its level as a word and its time as ISO 8601 in UTC', () => {
    const log = openLog({ level: 'info', file })
    log.info({ conn: 1, peer: '192.0.2.7:50312' }, 'session opened')
    log.warn({ peer: 'a\nb' }, 'turned away')
    expect(text().match(/\n/g)).toHaveLength(2)
    expect(lines()).toEqual([
      {
        level: 'info',
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]{12}Z$/),
        conn: 1,
        peer: '192.0.2.7:50312',
        msg: 'session opened',
      },
      { level: 'warn', time: expect.any(String), peer: 'a\nb', msg: 'turned away' },
    ])
  })

  it('holds nothing below its level', () => {
    const log = openLog({ level: 'warn', file })
    log.debug({}, 'visitor left')
    log.info({}, 'gateway ready')
    log.warn({}, 'refused')
    log.error({}, 'bug')
    expect(lines()).toMatchObject([{ msg: 'refused' }, { msg: 'bug' }])
  })

  it('goes on where an earlier one ended', () => {
    openLog({ level: 'info', file }).info({}, 'gateway ready')
    openLog({ level: 'info', file }).info({}, 'draining')
    expect(lines()).toMatchObject([{ msg: 'gateway ready' }, { msg: 'draining' }])
  })
})

describe('an error in the log', () => {
  it.each([
    new ProtocolError('BAD_MAGIC', 'a request without its magic'),
    new ConfigError([{ file: 'nbdgate.yaml', line: 1, column: 1, message: 'wrong' }]),
    new MaterialError('EXPIRED', 'server-cert.pem', 'the certificate expired'),
  ])('is $name with code and message, without a stack', error => {
    openLog({ level: 'info', file }).warn({ err: error }, 'protocol broken')
    expect(lines()).toMatchObject([{ err: { name: error.name, code: error.code, message: error.message } }])
    expect(text()).not.toContain('"stack"')
  })

  it('names its causes, all of them', () => {
    const root = new MaterialError('UNREADABLE', 'ca.pem', 'there is no such file')
    const middle = new ProtocolError('BAD_MAGIC', 'no greeting')
    middle.cause = root
    openLog({ level: 'info', file }).error(
      { err: new UpstreamError('HANDSHAKE', 'no TLS', { cause: middle }) },
      'upstream failed',
    )
    expect(lines()).toMatchObject([
      { err: { code: 'HANDSHAKE', cause: { code: 'BAD_MAGIC', cause: { code: 'UNREADABLE' } } } },
    ])
  })

  it('has no stack of a cause either: a refused connection is no bug', () => {
    const cause = Object.assign(new Error('connect ECONNREFUSED 192.0.2.7:10809'), { code: 'ECONNREFUSED' })
    openLog({ level: 'info', file }).error(
      { err: new UpstreamError('DIAL', 'no connection', { cause }) },
      'upstream failed',
    )
    expect(lines()).toMatchObject([{ err: { code: 'DIAL', cause: { code: 'ECONNREFUSED', message: cause.message } } }])
    expect(text()).not.toContain('"stack"')
  })

  it('has none when it is the system’s: a client that resets is no bug', () => {
    const err = Object.assign(new Error('read ECONNRESET'), { code: 'ECONNRESET', syscall: 'read' })
    openLog({ level: 'info', file }).info({ err }, 'session ended')
    expect(lines()).toMatchObject([{ err: { code: 'ECONNRESET', message: err.message } }])
    expect(text()).not.toContain('"stack"')
  })

  it('has its stack when it is a bug', () => {
    openLog({ level: 'info', file }).error({ err: new TypeError('undefined is not a function') }, 'bug')
    expect(lines()).toMatchObject([{ err: { name: 'TypeError', stack: expect.stringContaining('log.test.ts') } }])
  })

  it('brings nothing along that it happens to carry: no key, no buffer', () => {
    const error = Object.assign(new UpstreamError('DIAL', 'no connection'), {
      options: { key: '-----BEGIN PRIVATE KEY-----', passphrase: 'open sesame' },
      payload: Buffer.from('the first block'),
    })
    openLog({ level: 'debug', file }).error({ err: error }, 'upstream failed')
    expect(lines()).toMatchObject([{ err: { code: 'DIAL' } }])
    expect(text()).not.toMatch(/PRIVATE KEY|sesame|payload|options/)
  })

  it('is its text when it is no error at all', () => {
    openLog({ level: 'info', file }).error({ err: 'thrown as text' }, 'bug')
    expect(lines()).toMatchObject([{ err: 'thrown as text' }])
  })
})
