import { describe, expect, it } from 'vitest'
import { ConfigError } from '../../../src/config/errors.ts'
import { parseConfig } from '../../../src/config/load.ts'

const text = (admin: string) => `version: 1\ndoors: [{ unix: s }]\nexports: []\nadmin: ${admin}\n`
const load = (admin: string) => parseConfig(text(admin), '/etc/n.yaml').admin

function problemOf(admin: string): string | undefined {
  try {
    load(admin)
    return undefined
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    return error.message.replace('/etc/n.yaml:', '')
  }
}

const OPEN = 'anybody who can reach this address could look on: it needs `token-file`, or an address of loopback'

describe('admin', () => {
  it.each(['127.0.0.1:9180', '127.8.9.10:9180', '"[::1]:9180"', 'localhost:9180', '"[::ffff:127.0.0.1]:0"'])(
    'may be looked at on %s by whoever is on this host',
    http => {
      expect(problemOf(`{ http: ${http} }`)).toBeUndefined()
    },
  )

  it.each([
    '0.0.0.0:9180',
    '10.0.0.1:9180',
    '"[::]:9180"',
    '"[2001:db8::1]:9180"',
    'gateway.example:9180',
    '128.0.0.1:1',
  ])('may be looked at on %s only with a token', http => {
    expect(problemOf(`{ http: ${http} }`)).toBe(`4:16: ${OPEN}`)
    expect(problemOf(`{ http: ${http}, token-file: token }`)).toBeUndefined()
  })

  it('has its paths from the folder of the file', () => {
    expect(load('{ socket: a.sock, http: 0.0.0.0:9180, token-file: token }')).toEqual({
      socket: '/etc/a.sock',
      http: { host: '0.0.0.0', port: 9180, tokenFile: '/etc/token' },
    })
  })

  it.each([
    ['{}', '4:8: `admin` needs `socket`, `http` or both'],
    ['{ socket: s, token-file: t }', '4:21: `token-file` needs `http`'],
    ['{ http: 9180 }', expect.stringContaining('4:16: ')],
    ['{ http: nowhere }', '4:16: "nowhere" has no port: write HOST:PORT'],
    ['{ http: 127.0.0.1:1, tls: x }', expect.stringContaining('unknown key `tls`')],
  ])('%s is a mistake', (admin, problem) => {
    expect(problemOf(admin)).toEqual(problem)
  })
})
