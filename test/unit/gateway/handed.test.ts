import { describe, expect, it } from 'vitest'
import { parseConfig } from '../../../src/config/load.ts'
import { type BoundDescriptor, matchDescriptors, placesOf } from '../../../src/gateway/handed.ts'

function configOf(doors: readonly object[], admin?: object) {
  return parseConfig(JSON.stringify({ version: 1, doors, exports: [], ...(admin && { admin }) }), '/etc/nbdgate.yaml')
}

const tcp = (at: string) => ({ tcp: at, from: ['0.0.0.0/0'] })
const tls = (at: string) => ({ tls: at, cert: 'c', key: 'k', 'client-ca': 'a' })
const ip = (fd: number, name: string, address: string, port: number): BoundDescriptor => ({
  fd,
  name,
  bound: { kind: 'ip', address, port },
})
const unix = (fd: number, name: string, path: string): BoundDescriptor => ({ fd, name, bound: { kind: 'unix', path } })

function matched(descriptors: readonly BoundDescriptor[], config: ReturnType<typeof configOf>) {
  const { handed, left } = matchDescriptors(descriptors, config)
  return {
    handed: Object.fromEntries([...handed].map(([place, given]) => [place, 'fd' in given && given.fd])),
    left: left.map(({ fd }) => fd),
  }
}

describe('sockets that were opened for the gateway', () => {
  it('go by their address, however it is written', () => {
    const config = configOf([tcp('127.0.0.1:1'), tcp('[::1]:2'), tcp('localhost:3'), { unix: '/run/nbd.sock' }])
    const given = [
      unix(3, 'x', '/run/nbd.sock'),
      ip(4, '', '0:0:0:0:0:0:0:1', 2),
      ip(5, 'unknown', '127.0.0.1', 3),
      ip(6, 'nbdgate.socket', '127.0.0.1', 1),
    ]
    expect(matched(given, config)).toEqual({
      handed: { 'tcp 127.0.0.1:1': 6, 'tcp ::1:2': 4, 'tcp localhost:3': 5, '/run/nbd.sock': 3 },
      left: [],
    })
  })

  it('go by their name where no door has their address, and never to another kind', () => {
    const config = configOf([tls('0.0.0.0:1'), tls('0.0.0.0:2'), tcp('127.0.0.1:3')], { socket: '/run/admin.sock' })
    const given = [ip(3, 'tls', '0.0.0.0', 9), ip(4, 'tls', '0.0.0.0', 1), unix(5, 'admin', '/run/other.sock')]
    expect(matched(given, config)).toEqual({
      handed: { 'tcp 0.0.0.0:1': 4, 'tcp 0.0.0.0:2': 3, admin: 5 },
      left: [],
    })
    // What is meant for the TLS door is not the plain one, though it stands there.
    expect(matched([ip(3, 'ssh', '127.0.0.1', 3), unix(4, 'tls', '/run/nbd.sock')], config).left).toEqual([3, 4])
  })

  it('are left where there are more of them than doors', () => {
    const config = configOf([tcp('127.0.0.1:1')])
    expect(matched([ip(3, 'tcp', '127.0.0.1', 1), ip(4, 'tcp', '127.0.0.1', 1)], config).left).toEqual([4])
    expect(matched([ip(3, '', '127.0.0.2', 1), ip(4, '', '127.0.0.1', 2)], config).left).toEqual([3, 4])
  })
})

describe('places of doors', () => {
  it('tell two doors on any port of one host apart', () => {
    expect(placesOf(configOf([tcp('127.0.0.1:0'), tls('127.0.0.1:0'), { unix: '/s' }]).doors)).toEqual([
      'tcp 127.0.0.1:0',
      'tcp 127.0.0.1:0 2',
      '/s',
    ])
  })
})
