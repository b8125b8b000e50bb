/** Programs before and behind sessions: `prepare`, `cleanup`, `authorize`, whatever they and the names do. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, statSync } from 'node:fs'
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { expect } from 'vitest'
import { Opt, Rep } from '../../src/protocol/constants.ts'
import { test as base } from '../support/fixtures.ts'
import { MAIN, type RunningGateway } from '../support/gateway.ts'
import { runOk } from '../support/process.ts'
import { childrenOf, isAlive, signalTo } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import { waitFor } from '../support/wait.ts'
import { allow, config, type Entry, tcpDoor, tlsDoor } from './configs.ts'
import {
  ANYONE,
  folders,
  leftIn,
  linesOf,
  namesIn,
  nbdgate,
  programsOf,
  script,
  untilNothingIsLeft,
} from './hooks-ground.ts'
import { greeted, infoData, optionHead } from './raw-client.ts'
import { CAN_MULTI_CONN, enter, entered, go, READ_ONLY } from './sharing-ground.ts'

const NOT_READY = 'the export could not be made ready for you'

/** With an upstream that is there, and a script that writes down what it was run for. */
const test = base
  .extend('upstream', async ({ nbdkit }) => `nbd+unix:///?socket=${await nbdkit('memory', '1M')}`)
  .extend('notes', async ({ dir }) => {
    const file = join(dir, 'notes')
    const path = await script(
      dir,
      'note',
      `echo "$1 $NBDGATE_ID $NBDGATE_EXPORT $NBDGATE_IDENTITY" >> ${file}\n[ "$1" != prepare ] || echo made > "$NBDGATE_OVERLAY"`,
    )
    const of = (what: string) => linesOf(file).filter(line => line.startsWith(what))
    return { prepare: [path, 'prepare'], cleanup: [path, 'cleanup'], of }
  })

async function on(gateway: RunningGateway, name = 'disk') {
  return await go(await greeted({ host: '127.0.0.1', port: gateway.port('tcp') }), name)
}

const idOf = (line: string | undefined): string => line?.split(' ')[1] ?? ''

requires('nbdkit')('what is run for a session', () => {
  test('is run for each connection, with names and a file of its own', async ({ dir, upstream, notes, gateway }) => {
    const { prepare, cleanup } = notes
    const exports = [{ name: 'disk', upstream, prepare, cleanup, allow: ANYONE, sharing: 'cluster' }]
    const running = await gateway(config([tcpDoor()], exports, folders(dir)))
    const first = await on(running)
    const second = await on(running)
    if (first.kind !== 'in' || second.kind !== 'in') throw new Error('refused')
    // nbdkit's memory can serve several connections as one; but the next one of this client would find another disk.
    expect(first.flags & CAN_MULTI_CONN).toBe(0)
    const [one, two] = notes.of('prepare')
    expect(one).toMatch(/^prepare disk-[0-9a-f]{16} disk address-127-0-0-1-[0-9a-f]{16}$/)
    expect(idOf(two)).not.toBe(idOf(one))
    expect(namesIn(dir, 'state', 'overlays').toSorted()).toEqual([idOf(one), idOf(two)].toSorted())
    expect(statSync(join(dir, 'state', 'overlays')).mode & 0o777).toBe(0o700)
    first.client.reset()
    await waitFor('the first is cleaned up', () => notes.of('cleanup').length === 1)
    expect(idOf(notes.of('cleanup')[0])).toBe(idOf(one))
    second.client.reset()
    await untilNothingIsLeft(running, dir)
    expect(notes.of('cleanup')).toHaveLength(2)
    expect(await running.stop()).toBe(0)
    expect(notes.of('')).toHaveLength(4)
  })

  test('is run once for all of an export, and undone behind the last', async ({ dir, upstream, notes, gateway }) => {
    const { prepare, cleanup } = notes
    const exports = [{ name: 'disk', upstream, prepare, cleanup, per: 'export', allow: ANYONE, sharing: 'cluster' }]
    const running = await gateway(config([tcpDoor()], exports, folders(dir)))
    const [first, second] = await Promise.all([on(running), on(running)])
    expect([first.kind, second.kind]).toEqual(['in', 'in'])
    expect(notes.of('prepare')).toHaveLength(1)
    first.client.reset()
    await running.waitForLog(({ msg }) => msg === 'session ended')
    expect(notes.of('cleanup')).toEqual([])
    second.client.reset()
    await untilNothingIsLeft(running, dir)
    expect(notes.of('cleanup')).toHaveLength(1)
  })

  test('is kept for an identity, over a restart too, until it is removed or too old', async ({
    dir,
    upstream,
    notes,
    gateway,
    pki,
  }) => {
    const { prepare, cleanup } = notes
    const rules = [allow('alice', 'write'), allow('bob', 'write')]
    const exports = [{ name: 'disk', upstream, prepare, cleanup, per: 'identity', allow: rules, sharing: 'cluster' }]
    const text = (more: Entry = {}) => config([tlsDoor(pki)], exports, { ...folders(dir), ...more })
    const running = await gateway(text())
    const socket = join(dir, 'admin.sock')
    const list = async () => JSON.parse((await nbdgate('overlays', 'list', '--socket', socket, '--json')).stdout)
    for (const leaf of [pki.alice, pki.bob, pki.alice]) {
      const { client } = await entered(running.port('tls'), leaf)
      client.reset()
    }
    expect(notes.of('prepare')).toHaveLength(2)
    const [alice = '', bob = ''] = notes.of('prepare').map(idOf)
    expect([alice, bob]).toEqual([
      expect.stringMatching(/^disk-cert-cn-alice-[0-9a-f]{16}$/),
      expect.stringMatching(/^disk-cert-cn-bob-[0-9a-f]{16}$/),
    ])
    const { client } = await entered(running.port('tls'), pki.alice)
    expect(await list()).toMatchObject([
      { id: alice, who: 'cert:cn=alice', per: 'identity', kept: false, sessions: [expect.any(Number)] },
      { id: bob, who: 'cert:cn=bob', sessions: [] },
    ])
    expect(await nbdgate('overlays', 'rm', alice, '--socket', socket)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('somebody uses it'),
    })
    expect(await nbdgate('overlays', 'keep', bob, '--socket', socket)).toMatchObject({ code: 0 })
    client.reset()
    await running.stop()
    const second = await gateway(text())
    const again = await entered(second.port('tls'), pki.alice)
    expect(notes.of('prepare')).toHaveLength(2)
    expect(notes.of('cleanup')).toEqual([])
    again.client.reset()
    await second.stop()
    // What is older than a millisecond is too old, unless it is to be kept.
    const third = await gateway(text({ overlays: { keep: '1ms' } }))
    await third.waitForLog(({ msg, id }) => msg === 'overlay too old' && id === alice)
    await waitFor('it is cleaned up', () => namesIn(dir, 'state', 'preparations').length === 1)
    expect(notes.of('cleanup').map(idOf)).toEqual([alice])
    expect((await nbdgate('overlays', 'list', '--socket', socket)).stdout).toMatch(/cert:cn=bob +identity .* yes/)
    expect(await nbdgate('overlays', 'rm', 'nix', '--socket', socket)).toMatchObject({ code: 1 })
    expect(await nbdgate('overlays', 'rm', bob, '--socket', socket)).toMatchObject({ code: 0 })
    expect(notes.of('cleanup').map(idOf)).toEqual([alice, bob])
    expect(leftIn(dir)).toEqual([])
  })

  test('is asked who may come in, and can only take away', async ({ dir, upstream, gateway, pki }) => {
    const seen = join(dir, 'seen')
    const judge = await script(
      dir,
      'judge',
      `facts=$(cat); echo "$facts" > ${seen}.$1
case $facts in *carol*) exit 1 ;; *bob*) echo read ;; *) echo write ;; esac`,
    )
    const slow = await script(dir, 'slow', 'sleep 600')
    const carol = await pki.client('carol')
    const rules = [allow('alice', 'write'), allow('bob', 'write'), allow('carol', 'read')]
    const exports = [
      { name: 'disk', upstream, authorize: [judge, '{export}'], allow: rules },
      { name: 'slow', upstream, authorize: [slow], allow: rules, 'hook-timeout': '100ms' },
      { name: 'read', upstream, authorize: [judge, '{export}'], allow: [allow('alice', 'read')] },
    ]
    const running = await gateway(config([tlsDoor(pki)], exports))
    const port = running.port('tls')
    const { flags, client } = await entered(port, pki.alice)
    expect(flags & READ_ONLY).toBe(0)
    const facts = JSON.parse(linesOf(`${seen}.disk`).join(''))
    expect(facts).toMatchObject({ export: 'disk', rights: 'write', door: 'tls', who: 'cert:cn=alice' })
    expect(facts.identity.certificate.commonNames).toEqual(['alice'])
    client.reset()
    await running.waitForLog(({ msg }) => msg === 'session ended')
    // Both may read at once: what the program has left is what the lease is taken for.
    const bobs = [await entered(port, pki.bob), await entered(port, pki.bob)]
    expect(bobs.map(each => each.flags & READ_ONLY)).toEqual([READ_ONLY, READ_ONLY])
    const refused = { kind: 'refused', reply: Rep.ERR_POLICY, text: 'this export is not for you now' }
    expect(await enter(port, carol)).toMatchObject(refused)
    expect(await enter(port, pki.alice, 'slow')).toMatchObject(refused)
    expect((await entered(port, pki.alice, 'read')).flags & READ_ONLY).toBe(READ_ONLY)
    expect(running.log().filter(({ msg, reason }) => msg === 'refused' && reason === 'authorize')).toHaveLength(2)
    expect(programsOf(running.pid)).toEqual([])
  })

  const bad: readonly { readonly title: string; readonly text: string; readonly why: unknown }[] = [
    { title: 'fails', text: 'echo no space >&2; exit 7', why: 'exit 7' },
    { title: 'hangs', text: 'sleep 600', why: 'no end within 300 ms' },
    { title: 'hangs and ignores SIGTERM', text: 'trap "" TERM; sleep 600 & sleep 600', why: 'no end within 300 ms' },
    { title: 'floods standard error', text: 'yes flood >&2', why: 'no end within 300 ms' },
    { title: 'kills itself', text: 'kill -9 $$', why: 'SIGKILL' },
  ]
  test.for(bad)(
    'refuses the visitor when it $title, leaves nothing, and others go on',
    async ({ text, why }, { dir, upstream, notes, gateway }) => {
      const prepare = [await script(dir, 'bad', text)]
      const rest = { upstream, cleanup: notes.cleanup, allow: ANYONE, 'hook-timeout': '300ms' }
      const exports = [
        { name: 'disk', prepare, ...rest },
        { name: 'good', upstream, allow: ANYONE },
      ]
      const running = await gateway(config([tcpDoor()], exports, folders(dir)))
      const refused = on(running)
      expect((await on(running, 'good')).kind).toBe('in')
      expect(await refused).toMatchObject({ kind: 'refused', reply: Rep.ERR_POLICY, text: NOT_READY })
      expect(running.log().find(({ msg }) => msg === 'hook failed')).toMatchObject({ hook: 'prepare', why })
      expect(running.log().filter(({ msg }) => msg === 'program says').length).toBeLessThan(100)
      await untilNothingIsLeft(running, dir)
      expect(notes.of('cleanup')).toHaveLength(1)
    },
  )

  test('tells in the log how its cleanup has failed, and does not run it again', async ({ dir, upstream, gateway }) => {
    const ran = join(dir, 'ran')
    const cleanup = [await script(dir, 'bad', `echo once >> ${ran}; echo still mounted >&2; exit 32`)]
    const exports = [{ name: 'disk', upstream, prepare: ['true'], cleanup, allow: ANYONE }]
    const running = await gateway(config([tcpDoor()], exports, folders(dir)))
    const { client } = await on(running)
    client.reset()
    const line = await running.waitForLog(({ msg }) => msg === 'hook failed')
    expect(line).toMatchObject({ hook: 'cleanup', why: 'exit 32', last: 'still mounted', level: 'error' })
    await untilNothingIsLeft(running, dir)
    await running.stop()
    expect(linesOf(ran)).toEqual(['once'])
  })

  test('is given names that lead nowhere else, whatever the export is called', async ({ dir, upstream, gateway }) => {
    const names = ['../../etc', '-rf', 'x'.repeat(4096), 'two\nlines', '', 'a b;$(id)`', 'ü', '..', 'disk']
    const seen = join(dir, 'seen')
    const prepare = [await script(dir, 'see', `printf '%s\\0' "$@" >> ${seen}`), '{export}', '{id}', '{overlay}']
    const exports = names.map(name => ({ name, upstream, prepare, allow: ANYONE }))
    const running = await gateway(config([tcpDoor()], exports, folders(dir)))
    for (const name of names) expect((await on(running, name)).kind).toBe('in')
    const values = linesOf(seen).join('\n').split('\0').slice(0, -1)
    expect(values).toHaveLength(3 * names.length)
    const [exported, ids, overlays] = [0, 1, 2].map(nth => values.filter((_, index) => index % 3 === nth))
    for (const each of [...(exported ?? []), ...(ids ?? [])]) expect(each).toMatch(/^[A-Za-z0-9][\w.-]{0,99}$/)
    expect(exported?.at(-1)).toBe('disk')
    expect(new Set(exported).size).toBe(names.length)
    expect(overlays).toEqual(ids?.map(id => join(dir, 'state', 'overlays', id)))
  })

  test('is undone once after a crash', async ({ dir, upstream, notes, gateway, pki }) => {
    const { prepare, cleanup } = notes
    const rest = { upstream, prepare, cleanup, sharing: 'cluster', allow: [allow('alice', 'write')] }
    const exports = [
      { name: 'each', ...rest },
      { name: 'all', ...rest, per: 'export' },
      { name: 'own', ...rest, per: 'identity' },
    ]
    const text = config([tlsDoor(pki)], exports, folders(dir))
    const running = await gateway(text)
    for (const name of ['each', 'each', 'all', 'own']) await entered(running.port('tls'), pki.alice, name)
    running.kill('SIGKILL')
    await running.waitForExit()
    expect(notes.of('cleanup')).toEqual([])
    const second = await gateway(text)
    await waitFor('only the disk of an identity is left', () => namesIn(dir, 'state', 'preparations').length === 1)
    const prepared = notes.of('prepare').filter(line => !line.includes(' own '))
    expect(notes.of('cleanup').map(idOf).toSorted()).toEqual(prepared.map(idOf).toSorted())
    expect(second.log().filter(({ msg }) => msg === 'left behind')).toHaveLength(3)
    await second.stop()
    await gateway(text)
    expect(notes.of('cleanup')).toHaveLength(3)
  })

  test('is undone once for each session of a worker that dies', async ({ dir, upstream, notes, gateway }) => {
    const { prepare, cleanup } = notes
    const exports = [{ name: 'disk', upstream, prepare, cleanup, allow: ANYONE, sharing: 'cluster' }]
    const running = await gateway(config([tcpDoor()], exports, { ...folders(dir), workers: 2 }))
    const ready = running.log().filter(({ msg }) => msg === 'worker ready')
    for (let each = 0; each < 4; each++) expect((await on(running)).kind).toBe('in')
    signalTo(Number(ready[0]?.pid), 'SIGKILL')
    await waitFor('its sessions are cleaned up', () => notes.of('cleanup').length === 2)
    signalTo(Number(ready[1]?.pid), 'SIGKILL')
    await untilNothingIsLeft(running, dir)
    expect(new Set(notes.of('cleanup').map(idOf)).size).toBe(4)
    expect(notes.of('cleanup')).toHaveLength(4)
  })

  test.skipIf(process.getuid?.() !== 0)(
    'is not run when it can not be written down',
    async ({ dir, upstream, notes, gateway }) => {
      const state = join(dir, 'state')
      mkdirSync(state)
      await runOk(['mount', '-t', 'tmpfs', '-o', 'size=256k', 'tmpfs', state])
      try {
        const { prepare, cleanup } = notes
        const exports = [
          { name: 'disk', upstream, prepare, cleanup, allow: ANYONE },
          { name: 'good', upstream, allow: ANYONE, sharing: 'cluster' },
        ]
        const audit = { 'on-failure': 'warn' }
        const running = await gateway(config([tcpDoor()], exports, { ...folders(dir), audit }))
        await writeFile(join(state, 'fill'), Buffer.alloc(1024 * 1024)).catch(() => {})
        expect(await on(running)).toMatchObject({ kind: 'refused', reply: Rep.ERR_PLATFORM })
        expect((await on(running, 'good')).kind).toBe('in')
        expect(notes.of('')).toEqual([])
        expect(namesIn(state, 'preparations')).toEqual([])
        await runOk(['rm', join(state, 'fill')])
        expect((await on(running)).kind).toBe('in')
      } finally {
        await runOk(['umount', '-l', state])
      }
    },
  )

  test('ends what it has left running in its group, and waits for nobody', async ({ dir, upstream, gateway }) => {
    const pids = join(dir, 'pids')
    const prepare = [await script(dir, 'leave', `sleep 600 & echo $! > ${pids}`)]
    const exports = [{ name: 'disk', upstream, prepare, allow: ANYONE }]
    const running = await gateway(config([tcpDoor()], exports, folders(dir)))
    expect((await on(running)).kind).toBe('in')
    const [pid = '0'] = linesOf(pids)
    await waitFor('it is gone', () => !isAlive(Number(pid)))
    expect(childrenOf(running.pid).length).toBeGreaterThan(0)
  })

  test('is undone for a visitor who did not wait, and given up when the gateway ends', async ({
    dir,
    upstream,
    notes,
    gateway,
  }) => {
    const go = join(dir, 'go')
    const begun = join(dir, 'begun')
    const prepare = [await script(dir, 'wait', `echo >> ${begun}; while [ ! -e ${go} ]; do sleep 0.02; done; ls ${go}`)]
    const exports = [{ name: 'disk', upstream, prepare, cleanup: notes.cleanup, allow: ANYONE }]
    const running = await gateway(config([tcpDoor()], exports, folders(dir)))
    const ask = async (count: number) => {
      const client = await greeted({ host: '127.0.0.1', port: running.port('tcp') })
      const data = infoData('disk')
      client.write(optionHead(Opt.GO, data.length), data)
      await waitFor('it has begun', () => readFileSync(begun, 'utf8').length === count)
      return client
    }
    await writeFile(begun, '')
    const impatient = await ask(1)
    impatient.reset()
    await writeFile(go, '')
    await untilNothingIsLeft(running, dir)
    expect(notes.of('cleanup')).toHaveLength(1)
    await rm(go)
    const patient = await ask(2)
    const stopped = running.stop()
    expect((await patient.replies(Opt.GO)).at(-1)).toMatchObject({ type: Rep.ERR_SHUTDOWN })
    patient.reset()
    expect(await stopped).toBe(0)
    expect(notes.of('cleanup')).toHaveLength(2)
    expect(leftIn(dir)).toEqual([])
  })

  test('is asked of what a server lists, too', async ({ dir, gateway, nbdServer }) => {
    const file = join(dir, 'disk.img')
    await writeFile(file, Buffer.alloc(4096))
    const server = await nbdServer({ exports: { one: { file }, two: { file } } })
    const judge = await script(dir, 'judge', '[ "$1" = one ]')
    const exports = [{ from: server.uri(''), allow: ANYONE, authorize: [judge, '{export}'] }]
    const running = await gateway(config([tcpDoor()], exports))
    expect((await on(running, 'one')).kind).toBe('in')
    expect(await on(running, 'two')).toMatchObject({ kind: 'refused', reply: Rep.ERR_POLICY })
  })

  test("is one process's at a time, where several have one folder", async ({ dir, upstream, notes }) => {
    const { prepare, cleanup } = notes
    const exports = [{ name: 'disk', upstream, prepare, cleanup, per: 'identity', allow: ANYONE, sharing: 'cluster' }]
    const { state } = folders(dir)
    const file = join(dir, 'inetd.yaml')
    await writeFile(file, config([tcpDoor()], exports, { state }))
    // inetd, as far as it goes: each connection is a process of its own.
    const inetd = createServer({ pauseOnConnect: true }, socket => {
      const child = spawn(process.execPath, [MAIN, 'inetd', '-c', file], { stdio: [socket, 'ignore', 'ignore'] })
      child.once('exit', () => socket.destroy())
    }).listen(0, '127.0.0.1')
    try {
      await once(inetd, 'listening')
      const address = inetd.address()
      const port = typeof address === 'object' && address !== null ? address.port : 0
      const enter = async () => await go(await greeted({ host: '127.0.0.1', port }), 'disk')
      const first = await enter()
      expect(first.kind).toBe('in')
      expect(await enter()).toMatchObject({ kind: 'refused', text: 'another gateway process has this disk now' })
      first.client.reset()
      await waitFor('the lock is free', () => namesIn(state, 'locks').length === 0)
      expect((await enter()).kind).toBe('in')
      expect(notes.of('')).toHaveLength(1)
      expect(namesIn(state, 'overlays')).toHaveLength(1)
    } finally {
      inetd.close()
    }
  })

  test('needs a folder that survives, and names that there are', async ({ dir }) => {
    const file = join(dir, 'a.yaml')
    await mkdir(join(dir, 'state'))
    const problems = async (entry: Entry, more: Entry = {}) => {
      const disk = { name: 'disk', upstream: 'nbd://127.0.0.1/', allow: ANYONE, ...entry }
      await writeFile(file, config([{ unix: 's' }], [disk], more))
      return (await nbdgate('check', file)).stderr
    }
    const { state } = folders(dir)
    expect(await problems({ prepare: ['true'] })).toContain('`prepare` needs `state`')
    expect(await problems({ prepare: ['true', '{overly}'] }, { state })).toContain('{overly} is not known here')
    expect(await problems({ prepare: ['true', '{socket}'] }, { state })).toContain('{socket} is that of a server')
    expect(await problems({ cleanup: ['true'] }, { state })).toContain('`cleanup` needs `prepare`')
    expect(await problems({ authorize: ['true', '{overlay}'] }, { state })).toContain('{overlay} is not known here')
    expect(await problems({ prepare: 'true; rm -rf /' }, { state })).toContain('`prepare` must be a list')
    expect(await problems({ per: 'identity' }, { state })).toContain('`per` needs `prepare` or `spawn`')
    expect(await problems({ prepare: ['{export}'] }, { state })).toContain('the program has to be named as it is')
  })
})
