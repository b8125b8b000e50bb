import { describe, expect, test } from 'vitest'
import { parseUpstreamUri } from '../../../src/config/upstream-uri.ts'

function read(text: string): unknown {
  const uri = parseUpstreamUri(text)
  return uri.ok ? uri.value : uri.problem
}
const tcp = (host: string, port: number, name: string, tls = false) => ({ kind: 'tcp', host, port, export: name, tls })

describe('parseUpstreamUri', () => {
  test('takes port 10809 where none is named', () => {
    for (const text of ['nbd://h', 'nbds://h/x', 'nbd://[::1]/']) expect(read(text)).toMatchObject({ port: 10809 })
    expect(read('nbd://h:10810/x')).toMatchObject({ port: 10810 })
  })

  // The names are those of doc/uri.md, "NBD URI export name".
  test.each([
    ['nbd://example.com/disk', tcp('example.com', 10809, 'disk')],
    ['nbd://example.com/', tcp('example.com', 10809, '')],
    ['nbd://example.com', tcp('example.com', 10809, '')],
    ['nbd://example.com//disk', tcp('example.com', 10809, '/disk')],
    ['nbd://example.com/hello%20world', tcp('example.com', 10809, 'hello world')],
    ['nbd://h/a/../b', tcp('h', 10809, 'a/../b')],
    ['nbd://h/%2fa%3Fb%23', tcp('h', 10809, '/a?b#')],
    ['nbd://h/a+b', tcp('h', 10809, 'a+b')],
    ['nbd://h/%E2%82%AC', tcp('h', 10809, '€')],
    ['NBD://H:1/x', tcp('H', 1, 'x')],
    ['nbd://127.0.0.1:10810/x', tcp('127.0.0.1', 10810, 'x')],
    ['nbd://h:/x', tcp('h', 10809, 'x')],
    ['nbd://h/x?', tcp('h', 10809, 'x')],
    ['nbds://[2001:db8::1]:65535/x', tcp('2001:db8::1', 65535, 'x', true)],
    ['nbds://[::1]', tcp('::1', 10809, '', true)],
    [
      'nbds://10.0.0.1/x?tls-hostname=store.example.com',
      { ...tcp('10.0.0.1', 10809, 'x', true), tlsHostname: 'store.example.com' },
    ],
    ['nbd+unix:///disk?socket=/run/nbd.sock', { kind: 'unix', path: '/run/nbd.sock', export: 'disk', tls: false }],
    ['nbd+unix://?socket=a%20b', { kind: 'unix', path: 'a b', export: '', tls: false }],
    [
      'nbds+unix:///?socket=s&tls-hostname=%3a%3a1',
      { kind: 'unix', path: 's', export: '', tls: true, tlsHostname: '::1' },
    ],
  ])('reads %s', (text, expected) => {
    expect(read(text)).toEqual(expected)
  })

  test.each([
    ['', 'this is not an NBD URI'],
    ['/dev/sda', 'this is not an NBD URI'],
    ['nbd:unix:/sock', 'this is not an NBD URI'],
    ['http://h/x', 'http:// is not one of nbd://'],
    ['nbds+ssh://user@host/x', 'nbds+ssh:// is not in this version'],
    ['nbd+ssh://user:secret@host/x', 'a URI with a password is refused'],
    ['nbd+ssh://-oProxyCommand=x@host/x', 'the URI has no usable user'],
    ['nbd+ssh://@host/x', 'the URI has no usable user'],
    ['nbd+ssh://user@-host/x', 'begins with -'],
    ['nbd+ssh://host/x?port=0', 'port= is not'],
    ['nbd+ssh://host/x?port=1&socket=/s', 'name one'],
    ['nbd+ssh://host/x?socket=s', 'begin it with /'],
    ['nbd://host/x?port=1', 'port= is for nbd+ssh://'],
    ['nbd+vsock://2/x', 'nbd+vsock:// is not in this version'],
    ['nbd:///x', 'the URI names no host'],
    ['nbd://:1/x', 'the URI names no host'],
    ['nbd://-oProxyCommand=x/y', 'it begins with -'],
    ['nbd://::1/x', 'is not an address'],
    ['nbd://h:0/x', 'the port of the URI is not a number from 1 to 65535'],
    ['nbd://h:65536/x', 'the port of the URI is not a number from 1 to 65535'],
    ['nbd://h:1:2/x', 'is not an address or a host name'],
    ['nbd://h/x#y', 'write %23'],
    ['nbd://h/%zz', 'has a % that is not followed'],
    ['nbd://h/%ff', 'has a % that is not followed'],
    ['nbd://h/a%00b', 'contains a NUL or is longer than 4096 bytes'],
    [`nbd://h/${'%E2%82%AC'.repeat(1366)}`, 'contains a NUL or is longer than 4096 bytes'],
    ['nbd://h/x?socket=/s', 'socket= is for nbd+unix://'],
    ['nbd://h/x?tls-hostname=h', 'tls-hostname means nothing without TLS: use nbds://'],
    ['nbd+unix:///?socket=s&tls-hostname=h', 'use nbds+unix://'],
    ['nbds://h/x?tls-hostname=-h', 'tls-hostname is not an address or a host name'],
    ['nbds://h/x?tls-hostname=', 'tls-hostname is not an address or a host name'],
    ['nbds://h/x?tls-verify-peer=0', 'tls-verify-peer= is refused: nbdgate always verifies'],
    ['nbds://h/x?tls-certificates=/etc', 'tls-certificates= is refused: write { uri'],
    ['nbds://h/x?colour=red', 'colour= is an unknown parameter'],
    ['nbds://h/x?=', '= is an unknown parameter'],
    ['nbds://h/x?tls-hostname=a&tls-hostname=b', 'the URI has tls-hostname= twice'],
    ['nbds://h/x?tls-hostname=%', 'has a % that is not followed'],
    ['nbd+unix://host/x?socket=/s', 'has no host: write three slashes'],
    ['nbd+unix:///x', 'the URI names no socket'],
    ['nbd+unix:///x?socket=', 'the path of the socket is empty'],
    ['nbd+unix:///x?socket=%00abstract', 'the path of the socket contains a NUL'],
    [`nbd+unix:///x?socket=/${'s'.repeat(107)}`, 'the path of a Unix socket can have 107 bytes'],
  ])('refuses %s: %s', (text, problem) => {
    expect(read(text)).toContain(problem)
  })

  test.each(['nbd://user:hunter2@h/x', 'nbds://hunter2@h', 'http://hunter2@h/#', 'nbd+unix://hunter2@/x'])(
    'refuses the secret in %s without repeating it',
    text => {
      expect(read(text)).toContain('a URI with a user or a password is refused')
      expect(read(text)).not.toContain('hunter2')
    },
  )
})
