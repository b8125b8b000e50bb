import { describe, expect, test } from 'vitest'
import { parseEndpoint } from '../../../src/config/endpoint.ts'
import { parseDuration, parseSize } from '../../../src/config/units.ts'

const read = <T>(result: { ok: true; value: T } | { ok: false; problem: string }): T | string =>
  result.ok ? result.value : result.problem

describe('parseDuration', () => {
  test.each([
    ['500ms', 500],
    ['10s', 10_000],
    ['5m', 300_000],
    ['1h', 3_600_000],
    ['2d', 172_800_000],
    ['0s', 0],
  ])('reads %s as %d ms', (text, ms) => {
    expect(read(parseDuration(text))).toBe(ms)
  })

  test.each(['10', '', 's', '1.5s', '-1s', '10 s', '10S', '1w', '1toString', '١s', '1e3s'])('refuses %j', text => {
    expect(read(parseDuration(text))).toContain('is not a time')
  })

  test("refuses what a timer of Node's would fire at once", () => {
    expect(read(parseDuration('2147483647ms'))).toBe(2_147_483_647)
    expect(read(parseDuration('2147483648ms'))).toBe('"2147483648ms" is too long: at most 24d')
    expect(read(parseDuration('25d'))).toContain('too long')
  })
})

describe('parseSize', () => {
  test.each([
    ['0B', 0],
    ['64MiB', 67_108_864],
    ['200MB', 200_000_000],
    ['4kB', 4000],
    ['4KiB', 4096],
    ['1GiB', 1_073_741_824],
    ['2TB', 2_000_000_000_000],
  ])('reads %s as %d bytes', (text, bytes) => {
    expect(read(parseSize(text))).toBe(bytes)
  })

  test.each(['64', '64mib', '64M', '1.5GiB', '-1B', ''])('refuses %j', text => {
    expect(read(parseSize(text))).toContain('is not a size')
  })

  test('refuses what is no exact number any more', () => {
    expect(read(parseSize('9000TiB'))).toBe('"9000TiB" is too large')
  })
})

describe('parseEndpoint', () => {
  test.each([
    ['0.0.0.0:10809', '0.0.0.0', 10809],
    ['[::]:10809', '::', 10809],
    ['[fe80::1%eth0]:1', 'fe80::1%eth0', 1],
    ['localhost:0', 'localhost', 0],
    ['gate_1.example.com.:65535', 'gate_1.example.com.', 65535],
  ])('reads %s', (text, host, port) => {
    expect(read(parseEndpoint(text))).toEqual({ host, port })
  })

  test.each([
    ['10809', 'has no port: write HOST:PORT'],
    [':10809', 'the host is missing'],
    ['*:10809', 'write 0.0.0.0 or [::]'],
    ['::1:10809', 'needs brackets: write [::1]'],
    ['[::1]', 'is not an address or a host name'],
    ['[10.0.0.1]:1', 'is not an address'],
    ['10.0.0.1:', 'has no port from 0 to 65535'],
    ['10.0.0.1:65536', 'has no port from 0 to 65535'],
    ['10.0.0.1:-1', 'has no port from 0 to 65535'],
    ['10.0.0.1:0x50', 'has no port from 0 to 65535'],
    ['10.0.0.256:1', 'is not an address'],
    ['10.1:1', 'is not an address'],
    ['-oProxyCommand=x:1', 'it begins with -'],
    ['a..b:1', 'is not an address or a host name'],
    ['a b:1', 'is not an address or a host name'],
    [`${'a'.repeat(64)}:1`, 'is not an address or a host name'],
  ])('refuses %s: %s', (text, problem) => {
    expect(read(parseEndpoint(text))).toContain(problem)
  })
})
