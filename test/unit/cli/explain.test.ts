import { describe, expect, it } from 'vitest'
import { nbdgate } from '../../support/cli.ts'
import { tempFolder, written } from '../observe/trail.ts'

const dir = tempFolder()
const TLS = '{ tls: "127.0.0.1:1", cert: absent.pem, key: absent.key, client-ca: absent-ca.pem }'
const TCP = '{ tcp: "127.0.0.1:2", from: [10.0.0.0/8] }'

function config(doors: string): string {
  return written(
    dir.path('nbdgate.yaml'),
    `version: 1
doors: [${doors}]
exports:
  - name: disk
    upstream: nbd://127.0.0.1/disk
    allow:
      - { who: "address:10.0.0.7", rights: read }
      - { who: ${doors.includes('tls') ? '[cert:cn=alice, address:10.0.0.0/8]' : 'address:10.0.0.8'}, rights: write }
    deny: ["address:10.0.0.66"]
`,
  )
}
const ask = (doors: string, ...args: readonly string[]) => nbdgate('explain', '--config', config(doors), ...args)

describe('nbdgate explain', () => {
  it('says yes with the rights, the line, and what each rule had to do with it; exit 0', async () => {
    const { code, stdout, stderr } = await ask(TLS, '--export', 'disk', '--as', 'cert:cn=alice', '--from', '10.0.0.7')
    expect([code, stderr]).toEqual([0, ''])
    expect(stdout.split('\n')).toEqual([
      'allowed: write, by nbdgate.yaml:8',
      '  nbdgate.yaml:9 deny address:10.0.0.66: not met: address:10.0.0.66',
      '  nbdgate.yaml:7 allow read address:10.0.0.7: outdone',
      '  nbdgate.yaml:8 allow write cert:cn=alice + address:10.0.0.0/8: decides',
      '',
    ])
  })

  it.each([
    [['--export', 'disk', '--as', 'cert:cn=alice', '--from', '10.0.0.66'], 'refused: denied, by nbdgate.yaml:9\n'],
    [['--export', 'disk', '--as', 'cert:cn=bob', '--from', '10.0.0.8'], 'refused: no rule\n'],
    [['--export', 'no', '--as', 'cert:cn=alice'], 'refused: no such export\n'],
    [
      ['--export', 'disk', '--as', 'uid:0'],
      'refused: turned away: there is no unix door (the rules alone: refused: no rule)\n',
    ],
  ])('says no to %j; exit 1', async (args, verdict) => {
    const { code, stdout } = await ask(TLS, ...args)
    expect(code).toBe(1)
    expect(stdout).toContain(verdict)
  })

  it('prints facts as JSON', async () => {
    const { code, stdout } = await ask(TLS, '--export', 'disk', '--as', 'cert:cn=bob', '--from', '10.0.0.7', '--json')
    expect(code).toBe(0)
    expect(JSON.parse(stdout)).toMatchObject({
      allowed: true,
      export: 'disk',
      door: 'tls',
      as: ['cert:cn=bob'],
      from: '10.0.0.7',
      decision: { kind: 'granted', rights: 'read', rule: 'nbdgate.yaml:7' },
      steps: [{ kind: 'deny' }, { outcome: 'decides' }, { outcome: 'not met', unmet: ['cert:cn=alice'] }],
    })
  })

  it('knows who is cut off at accept, whatever the rules', async () => {
    const { code, stdout } = await ask(TCP, '--export', 'disk', '--from', '192.0.2.1')
    expect(code).toBe(1)
    expect(stdout).toContain('refused: turned away: not in `from` of any tcp door')
    expect((await ask(TCP, '--export', 'disk', '--from', '10.0.0.8')).code).toBe(0)
  })

  it('takes the door that fits the visitor, and asks where several do', async () => {
    const doors = `${TLS}, ${TCP}`
    const door = async (...args: string[]) =>
      JSON.parse((await ask(doors, '--export', 'disk', '--json', ...args)).stdout).door
    expect(await door('--as', 'cert:cn=alice')).toBe('tls')
    expect(await door('--as', 'uid:0')).toBe('unix')
    expect(await door('--from', '10.0.0.7', '--door', 'tcp')).toBe('tcp')
    const { code, stderr } = await ask(doors, '--export', 'disk', '--from', '10.0.0.7')
    expect([code, stderr]).toEqual([2, 'nbdgate: there are several kinds of doors: say which with --door\n'])
  })

  it.each([
    [['--as', 'cert:cn=alice'], '--export'],
    [['--export', 'disk', '--as', 'anyone'], 'nobody in particular'],
    [['--export', 'disk', '--as', 'ssh:user=*'], 'one name is needed'],
    [['--export', 'disk', '--as', 'cert:cn=alice', '--from', 'home'], '--from home: this is not an address'],
    [
      ['--export', 'disk', '--as', 'cert:cn=alice', '--door', 'barn'],
      "argument 'barn' is invalid. Allowed choices are tls, ssh, tcp, unix",
    ],
  ])('takes %j for a usage error', async (args, what) => {
    const { code, stdout, stderr } = await ask(TLS, ...args)
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toContain(what)
  })

  it('ends with 2 for a configuration with problems', async () => {
    const file = written(dir.path('bad.yaml'), 'version: 2\n')
    const { code, stderr } = await nbdgate('explain', '--config', file, '--export', 'disk')
    expect(code).toBe(2)
    expect(stderr).toContain(`${file}:1:10: `)
  })
})
