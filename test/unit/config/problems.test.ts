import { describe, expect, test } from 'vitest'
import { ConfigError } from '../../../src/config/errors.ts'
import { parseConfig } from '../../../src/config/load.ts'
import { whoProblem } from '../../../src/policy/who.ts'

const UNIX_DOOR = 'doors: [{ unix: s }]'

/** All problems, a line each, without the file's name. */
function problemsOf(text: string): readonly string[] {
  try {
    parseConfig(text, '/n.yaml', { validateWho: whoProblem })
    return []
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error
    expect(error.code).toBe('CONFIG')
    return error.message.split('\n').map(line => line.replace(/^\/n\.yaml:/, ''))
  }
}
/** A file that is fine but for its doors (from line 2 on). */
const withDoors = (doors: string): string => `version: 1\n${doors}\nexports: []\n`
/** A file that is fine but for an export: line 5 on. */
const withExport = (lines: string): string => `version: 1\n${UNIX_DOOR}\nexports:\n  - name: x\n${lines}\n`
const withUpstream = (lines: string): string => withExport(`    upstream: nbd://h/x\n${lines}`)

describe('YAML that is none', () => {
  test.each([
    ['', '1:1: the configuration must be a map, not empty'],
    ['# nothing\n', '1:1: the configuration must be a map, not empty'],
    ['just text', '1:1: the configuration must be a map, not text'],
    ['- a\n', '1:1: the configuration must be a map, not a list'],
    ['a: [1\nb: 2\n', '2:1: YAML: Flow sequence in block collection'],
    ['\ta: 1\n', '1:1: YAML: Tabs are not allowed as indentation'],
    ['a: 1\n---\nb: 2\n', '2:1: YAML: Source contains multiple documents'],
    ['\u0000\u0001\u007fELF', '1:1: the configuration must be a map, not text'],
    ['a: !secret x\n', '1:4: YAML: Unresolved tag: !secret'],
    ['a: *x\n', '1:4: nothing is anchored as &x before this alias'],
    ['a: &a { b: *a }\n', '1:12: *a contains itself'],
    ['? [a, b]\n: 1\n', '1:3: a key must be text; put it in quotes'],
    ['1: x\n', '1:1: a key must be text; put it in quotes'],
  ])('%j is a problem at its place', (text, problem) => {
    expect(problemsOf(text)).toEqual(expect.arrayContaining([expect.stringContaining(problem)]))
  })

  test('an alias bomb is a problem, and quickly so', () => {
    const levels = Array.from({ length: 30 }, (_, i) => `k${i + 1}: &k${i + 1} [${`*k${i}, `.repeat(9)}]`)
    expect(problemsOf(`k0: &k0 x\n${levels.join('\n')}\n`)).toEqual([
      '2:10: the aliases of this document expand to more than 100 values',
    ])
  })

  test('nesting without end is one problem', () => {
    expect(problemsOf(`a: ${'['.repeat(50_000)}`)).toEqual([expect.stringContaining('nested too deeply')])
  })
})

describe('an ssh door', () => {
  const door = (lines: string): string => withDoors(`doors:\n  - ssh: 0.0.0.0:22\n${lines}`)

  test.each([
    ['    host-keys: [k]\n    authorized-keys: a', []],
    ['    host-keys: k\n    user-ca: a\n    revoked-keys: r', []],
    ['    authorized-keys: a', ['3:5: `host-keys` is missing']],
    ['    host-keys: []\n    authorized-keys: a', ['4:16: `host-keys` needs at least one key']],
    ['    host-keys: [k]', ['3:5: nobody could log in: `authorized-keys` or `user-ca` is missing']],
    ['    host-keys: [k]\n    user-ca: a\n    cert: c', ['6:5: unknown key `cert`']],
    ['    host-keys: [k]\n    user-ca: a\n    tcp: 127.0.0.1:1', ['6:5: `tcp` can not stand beside `ssh`']],
  ])('%j', (lines, problems) => {
    expect(problemsOf(door(lines))).toEqual(problems)
  })

  test('is needed by what names it', () => {
    expect(problemsOf(withUpstream('    doors: [ssh]'))).toEqual(['6:13: there is no ssh door that could lead here'])
    expect(problemsOf(withUpstream('    allow: [{ who: ssh:user=x, rights: read }]'))).toEqual([
      '6:20: ssh: needs an ssh door, and there is none',
    ])
  })

  test('is on an address of its own', () => {
    const both =
      'doors:\n  - { ssh: "127.0.0.1:22", host-keys: k, user-ca: a }\n  - { tcp: "127.0.0.1:22", from: [::1] }'
    expect(problemsOf(withDoors(both))).toEqual(['4:12: the door `ssh: 127.0.0.1:22` is on this address already'])
  })
})

describe('keys', () => {
  test('that are unknown are reported at the key', () => {
    expect(problemsOf(`version: 1\n${UNIX_DOOR}\nexports: []\n  # here\nexport: []\n`)).toEqual([
      '5:1: unknown key `export`',
    ])
    expect(problemsOf(withDoors('doors:\n  - unix: s\n    name: x'))).toEqual(['4:5: unknown key `name`'])
    expect(problemsOf(withUpstream('    allow: [{ who: anyone, rights: read, rihgts: write }]'))).toEqual([
      '6:42: unknown key `rihgts`',
    ])
  })

  test('that are names of the language are unknown too', () => {
    expect(problemsOf(`version: 1\n${UNIX_DOOR}\nexports: []\n__proto__: {}\n`)).toEqual([
      '4:1: unknown key `__proto__`',
    ])
    expect(problemsOf(`version: 1\n${UNIX_DOOR}\nexports: []\n<<: { state: x }\n`)).toEqual(['4:1: unknown key `<<`'])
  })

  test('have control characters escaped', () => {
    expect(problemsOf(`version: 1\n${UNIX_DOOR}\nexports: []\n"\\e[2J": 1\n`)).toEqual([
      '4:1: unknown key `\\u{1b}[2J`',
    ])
  })

  test('that are given twice are reported at the second one, beside what else is wrong', () => {
    expect(problemsOf(`version: 1\n${UNIX_DOOR}\nversion: 1\nexports: []\nx: 1\n`)).toEqual([
      '3:1: `version` is given twice',
      '5:1: unknown key `x`',
    ])
  })

  test('that are missing are reported at the map that lacks them', () => {
    expect(problemsOf('# a comment\nstate: x\n')).toEqual([
      '2:1: `version` is missing',
      '2:1: `doors` is missing',
      '2:1: `exports` is missing',
    ])
    expect(problemsOf(withDoors('doors:\n  - tls: 0.0.0.0:1'))).toEqual([
      '3:5: `cert` is missing',
      '3:5: `key` is missing',
      '3:5: `client-ca` is missing: without it only `client-cert: optional` makes sense',
    ])
    expect(problemsOf(withDoors('doors:\n  - tcp: 0.0.0.0:1'))).toEqual(['3:5: `from` is missing'])
    expect(problemsOf(`version: 1\n${UNIX_DOOR}\nexports:\n  - allow: [{}]\n`)).toEqual([
      '4:5: `name` is missing',
      '4:5: `upstream` is missing',
      '4:13: `who` is missing',
      '4:13: `rights` is missing',
    ])
  })
})

describe('groups', () => {
  const withGroups = (groups: string, who: string) =>
    `${withUpstream(`    allow: [{ who: "${who}", rights: read }]`)}groups:\n${groups}\n`

  test('that are not there, that name groups, and members that are wrong', () => {
    expect(problemsOf(withGroups('  staff: [address:10.0.0.0/8]', 'group:staff'))).toEqual([])
    expect(problemsOf(withGroups('  staff: [anyone]', 'group:stuff'))).toEqual(['6:20: there is no group "stuff"'])
    const wrong = '  staff: [anyone]\n  all: [group:staff, [anyone, adress:10.0.0.0/8]]'
    expect(problemsOf(withGroups(wrong, 'group:all'))).toEqual([
      '9:9: a group can not name a group',
      expect.stringMatching(/^9:31: "adress" is not one of/),
    ])
  })
})

describe('rates', () => {
  test.each(['10', '0MB/s', '10MB', '1.5MB/s', '10 MB/s'])('%s is none', rate => {
    const problem = `"${rate}" is not a rate: write a whole number, a unit and /s, like 200MB/s`
    expect(problemsOf(withUpstream(`    limits: { read: "${rate}" }`))).toEqual([`6:21: ${problem}`])
  })
})

describe('sharing', () => {
  test.each([
    [
      'sharing: none',
      '6:14: `sharing` must be exclusive or readers-or-writer or single-writer or cluster or read-only',
    ],
    ['when-busy: never', '6:16: `when-busy` must be refuse, read-only, or wait= and a time, like wait=30s'],
    ['when-busy: wait=soon', '6:16: "soon" is not a time: write a whole number and ms, s, m, h or d, like 10s'],
    ['holder: address', '6:13: `holder` must be identity or identity+address'],
    ['luks-at: 1MiB', '6:5: `luks-at` needs `require-luks: true`'],
    ['luks-format: true', '6:5: `luks-format` needs `require-luks: true`'],
  ] as const)('%s', (line, problem) => {
    expect(problemsOf(withUpstream(`    ${line}`))).toEqual([problem])
  })

  test('a header begins at a sector', () => {
    const lines = '    require-luks: true\n    luks-at: 1000B'
    expect(problemsOf(withUpstream(lines))).toEqual(['7:14: `luks-at` must be a multiple of 512 bytes'])
  })

  test.each([
    ['leases: redis', '4:9: `leases` must be memory, { vanished-after: 30s }, or { etcd: [https://HOST:2379], … }'],
    ['leases: { ttl: 10s }', '4:11: `ttl` needs `etcd`'],
    ['leases: { etcd: "https://h" }', '4:17: "https://h" is not https://HOST:PORT'],
    ['leases: { etcd: ["https://h:1", "https://h:0"] }', '4:33: "0" is not a port'],
    ['leases: { etcd: [] }', '4:17: `etcd` needs at least one member'],
    ['leases: { etcd: "https://-h:1" }', '4:17: "-h" is not a host: it begins with -'],
    ['leases: { etcd: "https://h:1", ttl: 1s }', '4:37: `ttl` must be from 2s to 10m'],
    [
      'leases: { etcd: "https://h:1", prefix: "a b" }',
      '4:40: `prefix` must be 1 to 200 printable ASCII characters without a space',
    ],
    ['leases: { etcd: "https://h:1", cert: c }', '4:9: `cert` and `key` come together'],
    ['leases: { etcd: "https://h:1", user: u }', '4:9: `user` and `password-file` come together'],
    ['leases: { etcd: "http://h:1", ca: c }', '4:31: `ca` means nothing without TLS: use https://'],
    [
      'leases: { etcd: ["https://h:1", "http://i:1"] }',
      '4:17: some members with TLS and some without: one of them is a mistake',
    ],
    ['leases: { vanished-after: 1s }', '4:27: `vanished-after` must be at least 3s'],
  ])('%s', (line, problem) => {
    expect(problemsOf(`version: 1\n${UNIX_DOOR}\nexports: []\n${line}\n`)).toEqual([problem])
  })
})

describe('proxy-protocol', () => {
  const tcp = (value: string): string =>
    withDoors(`doors:\n  - { tcp: 0.0.0.0:1, from: [10.0.0.0/8],\n      proxy-protocol: ${value} }`)

  test.each([
    ['[]', '4:23: `proxy-protocol` needs at least one network'],
    ['v2', '4:23: `proxy-protocol` must be a list, not text'],
    ['[10.0.0.1/8]', '4:24: "10.0.0.1/8" has bits set behind its prefix; did you mean 10.0.0.0/8?'],
    ['[10.0.0.1, 0.0.0.0/0]', '4:34: everybody would be believed; name the balancers'],
  ])('of a door: %s', (value, problem) => {
    expect(problemsOf(tcp(value))).toEqual([problem])
  })

  test('is not for Unix doors, and of an upstream v2 or nothing', () => {
    expect(problemsOf(withDoors('doors:\n  - { unix: s, proxy-protocol: [10.0.0.1] }'))).toEqual([
      '3:16: unknown key `proxy-protocol`',
    ])
    expect(problemsOf(withExport('    upstream: { uri: "nbd://h/x", proxy-protocol: v1 }'))).toEqual([
      '5:51: `proxy-protocol` must be v2',
    ])
    expect(problemsOf(withExport('    upstream: { file: f, proxy-protocol: v2 }'))).toEqual([
      '5:26: unknown key `proxy-protocol`',
    ])
  })
})

test('workers are a number or auto', () => {
  const of = (value: string) => problemsOf(`version: 1\n${UNIX_DOOR}\nexports: []\nworkers: ${value}\n`)
  expect(['auto', '1', '256'].flatMap(of)).toEqual([])
  expect(of('0')).toEqual(['4:10: `workers` must be at least 1'])
  expect(of('257')).toEqual(['4:10: `workers` must be at most 256'])
  expect(of('many')).toEqual(['4:10: `workers` must be auto or a number'])
})

describe('programs are lists of arguments', () => {
  const state = 'state: s\n'
  const withState = (text: string) => problemsOf(withExport(text).replace('exports:', `${state}exports:`))
  const spawned = (argv: string, more = '') => withState(`    upstream: { spawn: ${argv}${more} }`)

  test.each([
    ['[a, "{socket}"]', ''],
    ['[a]', ', activation: true, linger: 0s, start: 1s, export: x'],
    ['[a, "json:{\\"driver\\": {}}", "{socket}{id}"]', ''],
  ])('%s%s', (argv, more) => {
    expect(spawned(argv, more)).toEqual([])
  })

  test('with what is there, and no more', () => {
    const upstream = '    upstream: nbd://h/x\n'
    expect(spawned('[a]')).toEqual([
      '6:24: `spawn` has to say {socket}, where the server is to listen; or `activation: true` hands it over',
    ])
    expect(spawned('[]')).toContain('6:24: `spawn` needs a program')
    expect(spawned('["", "{socket}"]')).toEqual(['6:25: the program has to be named as it is'])
    expect(spawned('[a, "{socket}", "{overlay}"]')).toEqual([
      '5:5: {overlay} is what `prepare` makes, and there is no `prepare`',
    ])
    expect(withState(`${upstream}    prepare: a b`)).toEqual(['7:14: `prepare` must be a list, not text'])
    expect(withState(`${upstream}    prepare: [a, "{socket}"]`)).toEqual([
      '7:18: {socket} is that of a server that `spawn` starts, and there is none',
    ])
    expect(withState(`${upstream}    prepare: [a, "{identity}"]\n    per: export`)).toEqual([
      '7:18: {identity} means nothing with `per: export`: all of them share it',
    ])
    expect(withState(`${upstream}    cleanup: [a]`)).toEqual(['7:5: `cleanup` needs `prepare`'])
    expect(withState(`${upstream}    per: identity`)).toEqual(['7:5: `per` needs `prepare` or `spawn`'])
    expect(problemsOf(withUpstream('    prepare: [a]'))).toEqual([
      '6:5: `prepare` needs `state`, the folder that knows after a crash what there is to clean up',
    ])
  })
})

describe('upstreams that die', () => {
  test('may have several ways, each of which is checked', () => {
    expect(problemsOf(withExport('    upstream: [nbd://a, nbd://b]'))).toEqual([])
    expect(problemsOf(withExport('    upstream: []'))).toEqual(['5:15: `upstream` needs at least one upstream'])
    expect(problemsOf(withExport('    upstream: [nbd://a, { uri: "nbd://b", ca: x }]'))).toEqual([
      '5:43: `ca` means nothing without TLS: use nbds:// or nbds+unix://',
    ])
  })

  test('have writes made again only where nobody else writes meanwhile', () => {
    expect(problemsOf(withUpstream('    replay-buffer: 1MiB\n    reconnect: 5m'))).toEqual([])
    expect(problemsOf(withUpstream('    replay-buffer: 1MiB\n    reconnect: 0s'))).toEqual([
      '6:5: `replay-buffer` needs `reconnect`',
    ])
    expect(problemsOf(withUpstream('    replay-buffer: 1MiB\n    sharing: cluster'))).toEqual([
      '6:5: `replay-buffer` can not stand beside `sharing: cluster`',
    ])
    expect(problemsOf(withUpstream('    replay-buffer: 2GiB'))).toEqual(['6:20: `replay-buffer` must be at most 1GiB'])
  })

  test('are reported where align would let two connections write one block', () => {
    expect(problemsOf(withUpstream('    align: true\n    sharing: single-writer'))).toEqual([])
    expect(problemsOf(withUpstream('    align: true\n    sharing: cluster'))).toEqual([
      '6:5: `align` can not stand beside `sharing: cluster`: two could write one block',
    ])
  })
})

describe('keys of later versions are refused by name', () => {
  test('upstreams', () => {
    expect(problemsOf(withExport('    upstream: nbds+ssh://u@h/x'))).toEqual([
      '5:15: nbds+ssh:// is not in this version',
    ])
    expect(problemsOf(withExport('    upstream: { uri: "nbds://h/x", identity: i }'))).toEqual([
      `5:36: \`identity\` is for nbd+ssh://`,
    ])
  })

  test('connections', () => {
    for (const count of ['0', '17', '1.5', 'many']) {
      expect(problemsOf(withExport(`    upstream: { uri: "nbds://h/x", connections: ${count} }`))).toEqual([
        expect.stringContaining('`connections` must be a number from 1 to 16'),
      ])
    }
    for (const upstream of ['file: disk.img', 'spawn: [nbdkit, -U, "{socket}"]']) {
      const problems = problemsOf(withExport(`    upstream: { ${upstream}, connections: 8 }`))
      expect(problems, upstream).toEqual([expect.stringContaining('connections')])
    }
  })

  test('identities', () => {
    expect(problemsOf(withUpstream('    allow: [{ who: psk:bob, rights: read }]\n    deny: [ssh:user=bob]'))).toEqual([
      '6:20: psk: needs a tls door with `psk`, and there is none',
      '7:12: ssh: needs an ssh door, and there is none',
    ])
  })
})

describe('values', () => {
  test.each([
    ['version: 2', '1:10: `version` must be 1'],
    ['version: "1"', '1:10: `version` must be 1'],
    ['state: ""', '1:8: a path can not be empty'],
    ['state: "a\\0b"', '1:8: a path can not contain a NUL'],
    ['audit: { on-failure: ignore }', '1:22: `on-failure` must be refuse or warn'],
    ['audit: { rotate-size: 1KiB }', '1:23: `rotate-size` must be at least 64KiB'],
    ['audit: { rotate-size: many }', '1:23: "many" is not a size'],
    ['audit: { keep: 3 }', '1:10: unknown key `keep`'],
    ['audit: {}', '1:1: `audit` needs `state`'],
    ['log: { level: loud }', '1:15: `level` must be debug or info or warn or error'],
    ['log: info', '1:6: `log` must be a map, not text'],
    ['log:', '1:5: `log` must be a map, not empty'],
    ['limits: { sessions: 0 }', '1:21: `sessions` must be at least 1'],
    ['limits: { sessions: 1.5 }', '1:21: `sessions` must be a whole number, not 1.5'],
    ['limits: { sessions: many }', '1:21: `sessions` must be a number, not text'],
    ['limits: { sessions-per-address: -1 }', '1:33: `sessions-per-address` must be at least 1'],
    ['limits: { negotiation: 0s }', '1:24: `negotiation` must be more than 0'],
    ['limits: { negotiation: 10 }', '1:24: `negotiation` must be text, not a number; put it in quotes'],
    ['limits: { max-startups: "10" }', '1:25: "10" is not START:RATE:FULL'],
    ['limits: { max-startups: "20:30:10" }', '1:25: "20:30:10": START is at least 1 and at most FULL'],
    ['limits: { max-startups: "1:101:10" }', '1:25: "1:101:10": START is at least 1 and at most FULL'],
    [
      'limits: { per-source-penalties: { authfail: 5 } }',
      '1:45: `authfail` must be text, not a number; put it in quotes',
    ],
    ['limits: { per-source-penalties: { noauth: 1s } }', '1:35: unknown key `noauth`'],
    ['limits: { idle: 10 minutes }', '1:17: "10 minutes" is not a time'],
    ['doors: []', '1:8: `doors` needs at least one door'],
    ['doors: {}', '1:8: `doors` must be a list, not a map'],
    ['doors: [3]', '1:9: a door has exactly one of `tls`, `ssh`, `tcp` and `unix`'],
    ['doors: [{}]', '1:9: a door has exactly one of `tls`, `ssh`, `tcp` and `unix`'],
    ['doors: [{ tcp: "h:1", unix: s }]', '1:11: `tcp` can not stand beside `unix`'],
    ['doors: [{ tcp: "h:1", tls: "h:2" }]', '1:9: a door has exactly one of `tls`, `ssh`, `tcp` and `unix`'],
    ['doors: [{ tcp: 10809, from: [10.0.0.0/8] }]', '1:16: `tcp` must be text, not a number; put it in quotes'],
    ['doors: [{ tcp: "h", from: [10.0.0.0/8] }]', '1:16: "h" has no port: write HOST:PORT'],
    ['doors: [{ tcp: "h:1", from: [] }]', '1:29: `from` needs at least one network'],
    ['doors: [{ tcp: "h:1", from: 10.0.0.0/8 }]', '1:29: `from` must be a list, not text'],
    ['doors: [{ tcp: "h:1", from: [10.0.0.1/8] }]', '1:30: "10.0.0.1/8" has bits set behind its prefix'],
    ['doors: [{ tls: "h:1", mode: off }]', '1:29: `mode` must be forced or selective'],
    ['doors: [{ tls: "h:1", client-cert: no }]', '1:36: `client-cert` must be required or optional'],
    ['doors: [{ tls: "h:1", cert: 3 }]', '1:29: `cert` must be text, not a number; put it in quotes'],
    ['doors: [{ tls: "h:1", crl: x, client-cert: optional }]', '1:23: `crl` needs `client-ca`'],
    ['doors: [{ unix: s, mode: 0660 }]', '1:26: `mode` must be text, not a number; put it in quotes'],
    ['doors: [{ unix: s, mode: "0999" }]', '1:26: `mode` must be octal permissions like "0660"'],
    ['doors: [{ unix: s, mode: "4755" }]', '1:26: `mode` must be octal permissions like "0660"'],
    [`doors: [{ unix: ${'s'.repeat(108)} }]`, '1:17: the path of a Unix socket can have 107 bytes'],
    ['exports: {}', '1:10: `exports` must be a list, not a map'],
    ['exports: [x]', '1:11: an entry of `exports` must be a map, not text'],
    ['exports: [{ name: 7 }]', '1:19: `name` must be text, not a number; put it in quotes'],
    ['exports: [{ name: "a\\0b" }]', '1:19: `name` must be at most 4096 bytes of UTF-8, without a NUL'],
    ['exports: [{ name: "\\ud800" }]', '1:19: `name` must be at most 4096 bytes'],
    [`exports: [{ name: ${'é'.repeat(2049)} }]`, '1:19: `name` must be at most 4096 bytes'],
    ['exports: [{ description: "a\\0b" }]', '1:26: `description` must be at most 4096 bytes'],
    [
      'exports: [{ upstream: 3 }]',
      '1:23: an upstream is an NBD URI, { uri: …, ca:, cert:, key: }, { file: PATH }, { spawn: [PROGRAM, …] }, or a list of URIs',
    ],
    ['exports: [{ upstream: {} }]', '1:23: an upstream is an NBD URI'],
    ['exports: [{ upstream: { uri: "nbd://h", file: f } }]', '1:23: an upstream is an NBD URI'],
    ['exports: [{ upstream: http://h }]', '1:23: http:// is not one of nbd://'],
    ['exports: [{ upstream: { uri: http://h } }]', '1:30: http:// is not one of nbd://'],
    ['exports: [{ upstream: { uri: "nbds://h", cert: c } }]', '1:23: `cert` and `key` come together'],
    ['exports: [{ upstream: { uri: "nbd://h", ca: c } }]', '1:41: `ca` means nothing without TLS'],
    ['exports: [{ upstream: { file: f, ca: c } }]', '1:34: unknown key `ca`'],
    ['exports: [{ upstream: { file: "" } }]', '1:31: a path can not be empty'],
    ['exports: [{ allow: anyone }]', '1:20: `allow` must be a list, not text'],
    ['exports: [{ allow: [anyone] }]', '1:21: an entry of `allow` must be a map, not text'],
    ['exports: [{ allow: [{ who: 3 }] }]', '1:28: `who` must be text or a list of texts'],
    ['exports: [{ allow: [{ who: [] }] }]', '1:28: an empty list would hold for everybody'],
    ['exports: [{ allow: [{ who: [anyone, 3] }] }]', '1:37: an entry of `who` must be text, not a number'],
    ['exports: [{ allow: [{ who: [anyone, nobody] }] }]', '1:37: "nobody" is not one of anyone'],
    ['exports: [{ allow: [{ rights: all }] }]', '1:31: `rights` must be read or write'],
    ['exports: [{ allow: [{ until: 2027-01-01 }] }]', '1:30: `until` must be a time like 2027-01-01T00:00:00Z'],
    ['exports: [{ allow: [{ until: 2027-01-01T00:00:00 }] }]', '1:30: `until` must be a time like'],
    ['exports: [{ allow: [{ until: 2027-02-30T00:00:00Z }] }]', '1:30: `until` must be a time like'],
    ['exports: [{ deny: [[]] }]', '1:20: an empty list would hold for everybody'],
    ['exports: [{ deny: [[anyone, "address:x"]] }]', '1:29: "x" is not an IP address or network'],
    ['exports: [{ deny: anyone }]', '1:19: `deny` must be a list, not text'],
    ['exports: [{ doors: [] }]', '1:20: an empty list would shut every door'],
    ['exports: [{ doors: [udp] }]', '1:21: an entry of `doors` must be tls, ssh, tcp or unix'],
    ['exports: [{ limits: { sessions: 0 } }]', '1:33: `sessions` must be at least 1'],
  ])('%s', (text, problem) => {
    const problems = problemsOf(text)
    expect(problems).toEqual(expect.arrayContaining([expect.stringContaining(problem)]))
    expect(new Set(problems).size).toBe(problems.length)
  })

  test('never show the password of a URI', () => {
    const problems = problemsOf(withExport('    upstream: nbd://bob:hunter2@h/x')).join()
    expect(problems).toContain('5:15: a URI with a user or a password is refused')
    expect(problems).not.toContain('hunter2')
  })
})

describe('what several places say together', () => {
  const exportOf = (who: string): string =>
    `  - { name: x, upstream: nbd://h, allow: [{ who: "${who}", rights: read }] }`

  test.each([
    ['0.0.0.0:1', '0.0.0.0:1'],
    ['0.0.0.0:1', '10.0.0.1:1'],
    ['"[::]:1"', '10.0.0.1:1'],
    ['"[::1]:1"', '"[0:0::1]:1"'],
    ['"[::ffff:10.0.0.1]:1"', '10.0.0.1:1'],
    ['Gate:1', 'gate:1'],
  ])('%s and %s are one address', (first, second) => {
    const doors = `doors:\n  - { tcp: ${first}, from: [10.0.0.0/8] }\n  - { tcp: ${second}, from: [10.0.0.0/8] }`
    expect(problemsOf(withDoors(doors))).toEqual([
      expect.stringMatching(/^4:12: the door `tcp: .*` is on this address already$/),
    ])
  })

  test.each([
    ['0.0.0.0:0', '0.0.0.0:0'],
    ['0.0.0.0:1', '0.0.0.0:2'],
    ['0.0.0.0:1', '"[::1]:1"'],
    ['10.0.0.1:1', '10.0.0.2:1'],
  ])('%s and %s are two', (first, second) => {
    const doors = `doors:\n  - { tcp: ${first}, from: [10.0.0.0/8] }\n  - { tcp: ${second}, from: [10.0.0.0/8] }`
    expect(problemsOf(withDoors(doors))).toEqual([])
  })

  test('two Unix doors on one path, however it is written', () => {
    expect(problemsOf(withDoors('doors:\n  - unix: s\n  - unix: ./a/../s'))).toEqual([
      '4:11: the door `unix: s` is on this address already',
    ])
  })

  test('two exports of one name', () => {
    expect(problemsOf(withUpstream('  - { name: x, upstream: nbd://h }'))).toEqual([
      '6:13: another export has the name "x" already',
    ])
  })

  test('an export at a door that is not there', () => {
    expect(problemsOf(withUpstream('    doors: [unix, tls]'))).toEqual([
      '6:19: there is no tls door that could lead here',
    ])
  })

  test('cert: without a tls door, or without one that asks for certificates', () => {
    expect(problemsOf(`version: 1\n${UNIX_DOOR}\nexports:\n${exportOf('cert:cn=a')}\n`)).toEqual([
      '4:50: cert: needs a tls door, and there is none',
    ])
    const open = 'doors: [{ tls: "h:1", cert: c, key: k, client-cert: optional }]'
    expect(problemsOf(`version: 1\n${open}\nexports:\n${exportOf('cert:cn=a')}\n`)).toEqual([
      '4:50: cert: needs a tls door with `client-ca`, and there is none',
    ])
  })

  test('uid: and gid: without a unix door, in deny rules too', () => {
    const doors = 'doors: [{ tcp: "h:1", from: [10.0.0.0/8] }]'
    expect(problemsOf(`version: 1\n${doors}\nexports:\n${exportOf('uid:0')}\n`)).toEqual([
      '4:50: uid: needs a unix door, and there is none',
    ])
    const deny = '  - { name: x, upstream: nbd://h, deny: ["gid:0"] }'
    expect(problemsOf(`version: 1\n${doors}\nexports:\n${deny}\n`)).toEqual([
      '4:42: gid: needs a unix door, and there is none',
    ])
  })

  test('the socket of an upstream that gets too long by the folder it is relative to', () => {
    const text = withExport(`    upstream: nbd+unix:///x?socket=${'s'.repeat(107)}`)
    expect(problemsOf(text)).toEqual(['5:15: the path of a Unix socket can have 107 bytes, this has more'])
  })
})

test('all problems come at once, in the order of the file, and none hides another', () => {
  const text = `version: 1
doors:
  - tls: 0.0.0.0:10809
    mode: force
  - tcp: 0.0.0.0:10809
    form: [10.0.0.0/8]
exports:
  - name: a
    upstream: nbd://h/a
    authorize: [prog, "{disk}"]
    allow:
      - who: uid:0
        rights: all
  - name: a
limits: { idle: never }
`
  expect(problemsOf(text)).toEqual([
    '3:5: `cert` is missing',
    '3:5: `key` is missing',
    '3:5: `client-ca` is missing: without it only `client-cert: optional` makes sense',
    '4:11: `mode` must be forced or selective',
    '5:5: `from` is missing',
    '5:10: the door `tls: 0.0.0.0:10809` is on this address already',
    '6:5: unknown key `form`',
    '10:23: {disk} is not known here; there is {export} {identity}',
    '12:14: uid: needs a unix door, and there is none',
    '13:17: `rights` must be read or write',
    '14:5: `upstream` is missing',
    '14:11: another export has the name "a" already',
    '15:17: "never" is not a time: write a whole number and ms, s, m, h or d, like 10s',
  ])
})

test('a ConfigError has its problems as data, and as one line each', () => {
  const problem = { file: 'n.yaml', line: 3, column: 5, message: 'wrong' }
  const error = new ConfigError([problem, { ...problem, line: 4 }])
  expect(error.problems).toHaveLength(2)
  expect(error.message).toBe('n.yaml:3:5: wrong\nn.yaml:4:5: wrong')
})
