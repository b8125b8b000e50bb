/** Preparations by themselves, with real programs: asked in any order, by many at once, while servers die. */
import { join } from 'node:path'
import { expect } from 'vitest'
import { parseConfig } from '../../src/config/load.ts'
import { logLines } from '../../src/observe/log.ts'
import { answers } from '../../src/preparing/listening.ts'
import { Preparations } from '../../src/preparing/preparations.ts'
import type { Guest, Readied } from '../../src/preparing/preparing.ts'
import { test as base } from '../support/fixtures.ts'
import { signalIfAlive, signalTo } from '../support/procfs.ts'
import { requires } from '../support/requires.ts'
import { waitFor } from '../support/wait.ts'
import { config, type Entry } from './configs.ts'
import { ANYONE, commandOf, leftIn, linesOf, namesIn, programsOf, script } from './hooks-ground.ts'

const PER = ['connection', 'identity', 'export'] as const

/** Preparations of three exports, one for each `per`, and the lines of their hooks and their log. */
const test = base.extend('ground', async ({ dir }, { onCleanup }) => {
  const notes = join(dir, 'notes')
  const note = await script(dir, 'note', `echo "$1 $NBDGATE_ID" >> ${notes}`)
  const spawn = ['nbdkit', '-f', '-U', '{socket}', 'memory', '1M']
  const hooks = { prepare: [note, 'prepare'], cleanup: [note, 'cleanup'] }
  const text = (more: Entry = {}): string => {
    const upstream = { spawn, linger: '20ms', ...more }
    const exports = PER.map(per => ({ name: per, upstream, ...hooks, per, allow: ANYONE }))
    return config([{ unix: join(dir, 'sock') }], exports, { state: join(dir, 'state') })
  }
  const log: string[] = []
  const preparations = new Preparations(join(dir, 'state'), logLines('info', { write: line => log.push(line) }))
  const use = (more?: Entry): void => preparations.apply(parseConfig(text(more), join(dir, 'a.yaml')))
  use()
  onCleanup(async () => {
    preparations.stop()
    await preparations.close()
  })
  const of = (what: string) => linesOf(notes).flatMap(line => (line.startsWith(what) ? [line.split(' ')[1] ?? ''] : []))
  return { preparations, use, of, log }
})

function guest(conn: number, uid = 7): Guest {
  return { asker: { identity: { uid }, door: 'unix' }, conn, peer: 'test' }
}

/** Numbers from 0 to below `count`, the same for the same seed. */
function random(seed: number): (count: number) => number {
  let state = seed
  return count => {
    // Numerical Recipes' linear congruential generator.
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * count)
  }
}

requires('nbdkit')('preparations', () => {
  test('give the connection that has lost its server another one', async ({ ground }) => {
    const { preparations, of } = ground
    const first = await preparations.prepare('connection', guest(1))
    if (first.kind !== 'ready' || first.upstream.kind !== 'unix') throw new Error(JSON.stringify(first))
    const [{ pid: before } = {}] = preparations.list()
    signalTo(before, 'SIGKILL')
    expect(await preparations.prepare('connection', guest(1))).toEqual(first)
    expect(await answers(first.upstream.path)).toBe(true)
    expect(preparations.list()).toMatchObject([{ pid: expect.any(Number), sessions: [1] }])
    expect(preparations.list()[0]?.pid).not.toBe(before)
    expect(of('prepare')).toHaveLength(1)
    preparations.finish(1)
    await waitFor('it is gone', () => preparations.list().length === 0)
    expect(of('cleanup')).toEqual(of('prepare'))
  })

  test('do not give a disk to two certificates of one name', async ({ ground }) => {
    const { preparations } = ground
    const names = {
      commonNames: ['alice'],
      organizations: [],
      organizationalUnits: [],
      dnsNames: [],
      emails: [],
      uris: [],
    }
    const rest = { subject: 'CN=alice', ips: [], spki: '', serial: '1', notAfterMs: 0 }
    const bearer = (conn: number, fingerprint: string): Guest => {
      const identity = { certificate: { ...names, ...rest, fingerprint } }
      return { asker: { identity, door: 'tls' }, conn, peer: 'test' }
    }
    expect(await preparations.prepare('identity', bearer(1, 'aa'))).toMatchObject({ kind: 'ready' })
    expect(await preparations.prepare('identity', bearer(2, 'bb'))).toMatchObject({ kind: 'refused', reason: 'busy' })
    expect(await preparations.prepare('identity', bearer(3, 'aa'))).toMatchObject({ kind: 'ready' })
    for (const conn of [1, 2, 3]) preparations.finish(conn)
    expect(await preparations.prepare('identity', bearer(4, 'bb'))).toMatchObject({ kind: 'ready' })
    expect(preparations.list()).toHaveLength(1)
    const nobody = { asker: { identity: {}, door: 'unix' as const }, conn: 5, peer: 'test' }
    expect(await preparations.prepare('identity', nobody)).toMatchObject({ kind: 'refused', reason: 'nobody known' })
  })

  test.for([1, 2, 3])(
    'end what they have begun, once, whatever happens in between: %i',
    async (seed, { dir, ground }) => {
      const { preparations, use, of, log } = ground
      const below = random(seed)
      const asked: Promise<Readied>[] = []
      const here = new Set<number>()
      for (let step = 1; step <= 150; step++) {
        const dice = below(10)
        const some = [...here][below(Math.max(1, here.size))]
        if (dice < 5) {
          here.add(step)
          asked.push(preparations.prepare(PER[below(3)] ?? 'export', guest(step, below(2))))
        } else if (dice < 8 && some !== undefined) {
          here.delete(some)
          preparations.finish(some)
        } else if (dice === 8) {
          const { pid } = preparations.list()[below(3)] ?? {}
          if (pid !== undefined) signalIfAlive(pid, below(2) === 0 ? 'SIGKILL' : 'SIGTERM')
        } else if (step % 7 === 0) use({ linger: `${20 + step}ms` })
        if (step % 10 === 0) {
          const sockets = programsOf(process.pid).flatMap(pid => /\S+\.sock/.exec(commandOf(pid)) ?? [])
          expect(sockets.toSorted()).toEqual([...new Set(sockets)].toSorted())
        }
        // Some at once, some behind each other.
        if (below(3) === 0) await asked[below(Math.max(1, asked.length))]
      }
      // Some servers have died at once, some guests have left before theirs was there.
      const answered = await Promise.all(asked)
      expect(answered.filter(({ kind }) => kind === 'refused')).toEqual([])
      expect(answered.filter(({ kind }) => kind === 'ready').length).toBeGreaterThan(5)
      for (const conn of here) preparations.finish(conn)
      await waitFor('only disks of identities are there', () =>
        preparations.list().every(({ per }) => per === 'identity'),
      )
      for (const { id } of preparations.list()) expect(await preparations.remove(id)).toBe('removed')
      expect(of('prepare').length).toBeGreaterThan(3)
      expect(of('cleanup').toSorted()).toEqual(of('prepare').toSorted())
      expect([leftIn(dir), namesIn(dir, 'state', 'locks')]).toEqual([[], []])
      const left = programsOf(process.pid).map(commandOf)
      expect(left.filter(command => command.includes(dir))).toEqual([])
      expect(log.filter(line => line.includes('"state can not'))).toEqual([])
    },
  )
})
