// The same random commands for two servers of the same content, to one directly, to the other through the gateway: every
// reply and the disks at the end are the same. COMMANDS=… for a longer run, SEED=… for another one.
import { expect } from 'vitest'
import { test } from '../support/fixtures.ts'
import { requires } from '../support/requires.ts'
import { config, tcpDoor } from './configs.ts'
import { enter, type Party, randomCommands, readReplies, sendCommand } from './random-commands.ts'

const COMMANDS = Number(process.env.COMMANDS ?? 10_000)
const SEED = Number(process.env.SEED ?? 20_261_128)
const SIZE = 4 * 1024 * 1024
const READ = 0

/** At most so many commands are out at a time. */
const IN_FLIGHT = 16

/** Servers, by what is asked of nbdkit. `sparse` gives holes, `odd` a size that is no multiple of anything. */
const SERVERS = {
  memory: ['memory', String(SIZE)],
  sparse: ['data', 'data=@1048576 1*65536 @3145728 7*4096', `size=${SIZE}`],
  odd: ['memory', String(SIZE + 77)],
  'without structured replies': ['--no-sr', 'memory', String(SIZE)],
} as const

requires('nbdkit')('through the gateway', () => {
  for (const [name, args] of Object.entries(SERVERS)) {
    const count = name === 'memory' ? COMMANDS : Math.ceil(COMMANDS / 5)
    test(`${count} random commands are answered as by the server itself, and leave the same disk: ${name}`, async ({
      nbdkit,
      gateway,
    }) => {
      const [own, behind] = [await nbdkit(...args), await nbdkit(...args)]
      const allow = [{ who: 'anyone', rights: 'write' }]
      const exports = [{ name: 'disk', upstream: `nbd+unix:///?socket=${behind}`, allow }]
      const running = await gateway(config([tcpDoor()], exports))
      const direct = await enter({ path: own }, '')
      const through = await enter({ host: '127.0.0.1', port: running.port('tcp') }, 'disk')
      expect(through.size).toBe(direct.size)
      // What the gateway adds where the server has none: one chunk a READ, which is what DF asks for.
      const DF = 128
      expect(through.flags & ~DF).toBe(direct.flags & ~DF)
      const commands = randomCommands(SEED, count, direct)
      // Every command with every flag that the server knows, and not a handful of them.
      expect(new Set(commands.map(({ type, flags }) => `${type} ${flags}`)).size).toBeGreaterThan(15)
      for (let at = 0; at < commands.length; ) {
        const together = apart(commands.slice(at, at + IN_FLIGHT))
        await expectSame([direct, through], together, at)
        at += together.length
      }
      await expectSameDisk(direct, through)
    })
  }
})

type Commands = ReturnType<typeof randomCommands>

/** nbdkit keeps memory by pages of 32 KiB: what is zeroed in one may make a hole of the whole. */
const PAGE = 32 * 1024

/** As many of the first commands as do not touch each other's pages. */
function apart(commands: Commands): Commands {
  const found: Commands[number][] = []
  for (const command of commands) {
    const [from, to] = pagesOf(command)
    if (found.map(pagesOf).some(([start, end]) => from < end && start < to)) break
    found.push(command)
  }
  return found
}

function pagesOf({ offset, length }: Commands[number]): readonly [from: number, to: number] {
  return [Math.floor(offset / PAGE), Math.ceil((offset + length) / PAGE)]
}

async function expectSame(parties: readonly [Party, Party], commands: Commands, at: number): Promise<void> {
  const first = BigInt(at + 1)
  const [wanted, found] = await Promise.all(
    parties.map(async party => {
      for (const [nth, command] of commands.entries()) sendCommand(party, first + BigInt(nth), command)
      return await readReplies(party, commands, first)
    }),
  )
  for (const [nth, command] of commands.entries()) {
    const [is, was] = [found?.get(first + BigInt(nth)), wanted?.get(first + BigInt(nth))]
    const what = `command ${at + nth}: ${JSON.stringify(command)}`
    expect(is?.error, what).toBe(was?.error)
    expect(is?.extents, what).toEqual(was?.extents)
    expect(was !== undefined && is?.data.equals(was.data), what).toBe(true)
  }
}

async function expectSameDisk(direct: Party, through: Party): Promise<void> {
  const all = { type: READ, flags: 0, offset: 0, length: direct.size, fill: 0 }
  const whole = [all]
  for (const party of [direct, through]) sendCommand(party, 0n, all)
  const [wanted, found] = [await readReplies(direct, whole, 0n), await readReplies(through, whole, 0n)]
  expect(wanted.get(0n)?.data).toHaveLength(direct.size)
  expect(found.get(0n)?.data.equals(wanted.get(0n)?.data ?? Buffer.alloc(0))).toBe(true)
}
