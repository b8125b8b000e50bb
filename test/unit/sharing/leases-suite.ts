/** What every keeper of leases promises: each implementation runs these. */
import { describe, expect, it } from 'vitest'
import type { Claim, ClaimAnswer, Leases } from '../../../src/sharing/leases.ts'

const NEVER = new AbortController().signal
const AT_ONCE = { ms: 0, signal: NEVER }
const PATIENT = { ms: 60_000, signal: NEVER }

/** A claim of `alice`, who writes, in session 1; but for what a test says. */
export function claim(more: Partial<Claim> = {}): Claim {
  const { holder = 'alice', session = 1 } = more
  const usual = { export: 'disk', mode: 'readers-or-writer', access: 'write' } as const
  return { ...usual, session, holder, who: holder, peer: `${holder}:${session}`, ...more }
}

/** Runs the suite on what `make` makes. */
export function leasesSuite(name: string, make: () => Leases | Promise<Leases>): void {
  describe(`leases, kept by ${name}`, () => {
    const bob = (more: Partial<Claim> = {}): Claim => claim({ holder: 'bob', session: 2, ...more })
    const kindOf = async (answer: Promise<ClaimAnswer>): Promise<string> => (await answer).kind

    it.each([
      ['exclusive', 'read', 'read', 'busy'],
      ['exclusive', 'write', 'write', 'busy'],
      ['readers-or-writer', 'read', 'read', 'held'],
      ['readers-or-writer', 'read', 'write', 'busy'],
      ['readers-or-writer', 'write', 'read', 'busy'],
      ['readers-or-writer', 'write', 'write', 'busy'],
      ['single-writer', 'read', 'read', 'held'],
      ['single-writer', 'read', 'write', 'held'],
      ['single-writer', 'write', 'read', 'held'],
      ['single-writer', 'write', 'write', 'busy'],
      ['cluster', 'write', 'write', 'held'],
      ['read-only', 'read', 'read', 'held'],
    ] as const)('%s: beside one who may %s another who may %s is %s', async (mode, first, second, kind) => {
      const leases = await make()
      expect(await kindOf(leases.acquire(claim({ mode, access: first }), AT_ONCE))).toBe('held')
      const answer = leases.acquire(bob({ mode, access: second }), AT_ONCE)
      expect(await kindOf(answer)).toBe(kind)
      expect(leases.list()).toHaveLength(kind === 'held' ? 2 : 1)
    })

    it('says by whom it is held', async () => {
      const leases = await make()
      await leases.acquire(claim(), AT_ONCE)
      const answer = await leases.acquire(bob(), AT_ONCE)
      expect(answer).toMatchObject({
        kind: 'busy',
        by: { export: 'disk', who: 'alice', peer: 'alice:1', access: 'write', sessions: [1] },
      })
    })

    it('say who waits, the first to come first, until it has its place or has given up', async () => {
      const leases = await make()
      await leases.acquire(claim(), AT_ONCE)
      const [second, third] = [new AbortController(), new AbortController()]
      const late = leases.acquire(bob(), { ms: 60_000, signal: second.signal })
      const later = leases.acquire(claim({ holder: 'carol', session: 3 }), { ms: 60_000, signal: third.signal })
      const names = (): readonly string[] => leases.waiting().map(({ claim: { who } }) => who)
      expect(leases.waiting()).toMatchObject([{ claim: bob() }, { claim: { who: 'carol', export: 'disk' } }])
      third.abort()
      expect(await kindOf(later)).toBe('busy')
      expect(names()).toEqual(['bob'])
      leases.release(1)
      expect(await kindOf(late)).toBe('held')
      expect(names()).toEqual([])
    })

    it('let a holder join itself at once, and say which sessions were there', async () => {
      const leases = await make()
      await leases.acquire(claim({ access: 'read' }), AT_ONCE)
      expect(await leases.acquire(claim({ session: 7 }), AT_ONCE)).toMatchObject({ kind: 'held', others: [1] })
      expect(leases.list()).toMatchObject([{ holder: 'alice', access: 'write', peer: 'alice:1', sessions: [1, 7] }])
    })

    it('are free when the last session of the holder has gone', async () => {
      const leases = await make()
      await leases.acquire(claim(), AT_ONCE)
      await leases.acquire(claim({ session: 7 }), AT_ONCE)
      leases.release(1)
      expect(await kindOf(leases.acquire(bob(), AT_ONCE))).toBe('busy')
      leases.release(7)
      expect(await kindOf(leases.acquire(bob(), AT_ONCE))).toBe('held')
    })

    it('are of one export each', async () => {
      const leases = await make()
      await leases.acquire(claim(), AT_ONCE)
      expect(await kindOf(leases.acquire(bob({ export: 'other' }), AT_ONCE))).toBe('held')
    })

    it('do not count a no, nor a look', async () => {
      const leases = await make()
      expect(await kindOf(leases.look(bob()))).toBe('held')
      await leases.acquire(claim(), AT_ONCE)
      await leases.acquire(bob(), AT_ONCE)
      leases.release(2)
      leases.release(99)
      expect(leases.list()).toMatchObject([{ holder: 'alice' }])
      expect(await kindOf(leases.look(bob()))).toBe('busy')
    })

    it('make who is patient wait for its turn, in the order in which they came', async () => {
      const leases = await make()
      await leases.acquire(claim(), AT_ONCE)
      const order: string[] = []
      const wait = async (holder: string, session: number): Promise<void> => {
        await leases.acquire(claim({ holder, session }), PATIENT)
        order.push(holder)
        leases.release(session)
      }
      const all = [wait('bob', 2), wait('carol', 3), wait('dave', 4)]
      leases.release(1)
      await Promise.all(all)
      expect(order).toEqual(['bob', 'carol', 'dave'])
      expect(leases.list()).toEqual([])
    })

    it('say no to who has waited long enough, or has gone', async () => {
      const leases = await make()
      await leases.acquire(claim(), AT_ONCE)
      expect(await kindOf(leases.acquire(bob(), { ms: 1, signal: NEVER }))).toBe('busy')
      const gone = new AbortController()
      const waiting = leases.acquire(bob(), { ...PATIENT, signal: gone.signal })
      gone.abort()
      expect(await kindOf(waiting)).toBe('busy')
      leases.release(1)
      expect(leases.list()).toEqual([])
    })

    it('let wait for who is leaving even those who have no patience', async () => {
      const leases = await make()
      await leases.acquire(claim(), AT_ONCE)
      leases.leaving(1)
      const waiting = leases.acquire(bob(), AT_ONCE)
      expect(leases.list()).toMatchObject([{ holder: 'alice' }])
      leases.release(1)
      expect(await kindOf(waiting)).toBe('held')
      expect(leases.list()).toMatchObject([{ holder: 'bob' }])
    })

    it('let nobody wait any more when they are told so', async () => {
      const leases = await make()
      await leases.acquire(claim(), AT_ONCE)
      const waiting = leases.acquire(bob(), PATIENT)
      leases.dismiss()
      expect(await kindOf(waiting)).toBe('busy')
      expect(await kindOf(leases.acquire(bob(), PATIENT))).toBe('busy')
    })

    it('have no place in a stricter mode for who came later', async () => {
      const leases = await make()
      await leases.acquire(claim({ mode: 'cluster' }), AT_ONCE)
      await leases.acquire(claim({ mode: 'cluster', session: 3 }), AT_ONCE)
      await leases.acquire(bob({ mode: 'cluster' }), AT_ONCE)
      expect(leases.adopt(() => 'exclusive')).toMatchObject([{ session: 2, by: { who: 'alice', mode: 'exclusive' } }])
      expect(leases.adopt(() => undefined)).toEqual([])
    })

    it('let in who waits when the mode allows it', async () => {
      const leases = await make()
      await leases.acquire(claim(), AT_ONCE)
      const waiting = leases.acquire(bob(), PATIENT)
      expect(leases.adopt(() => 'cluster')).toEqual([])
      expect(await kindOf(waiting)).toBe('held')
    })
  })
}
