/** Random commands that are valid for an export, and their replies as what can be compared. */
import type { SocketAddress } from '../support/wait.ts'
import { exportInfo, greeted, infoData, type RawClient, u16, u32 } from './raw-client.ts'

const CMD = { READ: 0, WRITE: 1, FLUSH: 3, TRIM: 4, CACHE: 5, ZEROES: 6, BLOCK_STATUS: 7 } as const
const FLAG = { FUA: 1, NO_HOLE: 2, DF: 4, REQ_ONE: 8, FAST_ZERO: 16 } as const
const [STRUCTURED_REPLY, SET_META_CONTEXT, GO] = [8, 10, 7]

/** What an export can do (transmission flags). */
const CAN = { FLUSH: 4, FUA: 8, TRIM: 32, ZEROES: 64, DF: 128, CACHE: 1024, FAST_ZERO: 2048 } as const

export interface Command {
  readonly type: number
  readonly flags: number
  readonly offset: number
  readonly length: number
  /** Of a WRITE: what its bytes are made of. */
  readonly fill: number
}

/** A client of one of the two, in the transmission phase with base:allocation. */
export interface Party {
  readonly client: RawClient
  readonly size: number
  readonly flags: number
}

/** Comes into an export with structured replies and base:allocation. */
export async function enter(address: SocketAddress, name: string): Promise<Party> {
  const client = await greeted(address)
  await client.option(STRUCTURED_REPLY)
  const context = Buffer.from('base:allocation')
  const query = Buffer.concat([u32(name.length), Buffer.from(name), u32(1), u32(context.length), context])
  await client.option(SET_META_CONTEXT, query)
  const { size, flags } = exportInfo(await client.option(GO, infoData(name)))
  return { client, size: Number(size), flags }
}

/** Numbers from 0 to below a bound that look like chance, the same for the same seed (Park and Miller). */
function dice(seed: number): (bound: number) => number {
  let state = (seed % 2_147_483_646) + 1
  return bound => {
    state = (state * 48_271) % 2_147_483_647
    return state % bound
  }
}

/** So many commands for an export of this size with these transmission flags. */
export function randomCommands(
  seed: number,
  count: number,
  { size, flags }: Pick<Party, 'size' | 'flags'>,
): readonly Command[] {
  const roll = dice(seed)
  const can = (flag: number) => (flags & flag) !== 0
  const types = [
    CMD.READ,
    CMD.READ,
    CMD.READ,
    CMD.WRITE,
    CMD.WRITE,
    CMD.WRITE,
    CMD.BLOCK_STATUS,
    CMD.BLOCK_STATUS,
    ...(can(CAN.FLUSH) ? [CMD.FLUSH] : []),
    ...(can(CAN.TRIM) ? [CMD.TRIM] : []),
    ...(can(CAN.ZEROES) ? [CMD.ZEROES, CMD.ZEROES] : []),
    ...(can(CAN.CACHE) ? [CMD.CACHE] : []),
  ]
  const flagsOf: Readonly<Record<number, number>> = {
    [CMD.READ]: can(CAN.DF) ? FLAG.DF : 0,
    [CMD.WRITE]: can(CAN.FUA) ? FLAG.FUA : 0,
    [CMD.TRIM]: can(CAN.FUA) ? FLAG.FUA : 0,
    [CMD.ZEROES]: FLAG.NO_HOLE | (can(CAN.FUA) ? FLAG.FUA : 0) | (can(CAN.FAST_ZERO) ? FLAG.FAST_ZERO : 0),
    [CMD.BLOCK_STATUS]: FLAG.REQ_ONE,
  }
  return Array.from({ length: count }, () => {
    const type = types[roll(types.length)] ?? CMD.READ
    if (type === CMD.FLUSH) return { type, flags: 0, offset: 0, length: 0, fill: 0 }
    // On blocks and off them, short and long, up to the very end.
    const unit = [1, 512, 4096, 65_536][roll(4)] ?? 1
    const offset = Math.min(roll(Math.ceil(size / unit)) * unit, size - 1)
    const length = Math.min((1 + roll(8)) * unit, size - offset)
    return { type, flags: (flagsOf[type] ?? 0) & roll(32), offset, length, fill: roll(256) }
  })
}

/** Sends a command under this cookie. */
export function sendCommand({ client }: Party, cookie: bigint, { type, flags, offset, length, fill }: Command): void {
  const [head, place] = [Buffer.alloc(8), Buffer.alloc(8)]
  head.writeBigUInt64BE(cookie)
  place.writeBigUInt64BE(BigInt(offset))
  const payload = type === CMD.WRITE ? Buffer.alloc(length, Buffer.from([fill, fill ^ 0x55, 0, 1, 2])) : Buffer.alloc(0)
  client.write(u32(0x2560_9513), u16(flags), u16(type), head, place, u32(length), payload)
}

/** A reply as what can be compared: its error, the bytes of a READ in their places, the extents of a context. */
export interface Reply {
  readonly cookie: bigint
  readonly error: number
  readonly data: Buffer
  readonly extents: readonly (readonly [length: number, flags: number])[]
}

/** Reads replies, whose chunks may be mixed, until as many are whole as there are commands, by cookie. */
export async function readReplies(
  { client }: Party,
  commands: readonly Command[],
  first: bigint,
): Promise<ReadonlyMap<bigint, Reply>> {
  const open = new Map<bigint, { error: number; data: Buffer; extents: (readonly [number, number])[] }>()
  for (const [at, { type, length }] of commands.entries()) {
    const data = Buffer.alloc(type === CMD.READ ? length : 0, 0xee)
    open.set(first + BigInt(at), { error: 0, data, extents: [] })
  }
  const whole = new Map<bigint, Reply>()
  while (whole.size < commands.length) {
    const { cookie, type, isLast, payload } = await readMessage(client, cookie =>
      simpleData(commands[Number(cookie - first)]),
    )
    const reply = open.get(cookie)
    const command = commands[Number(cookie - first)]
    if (reply === undefined || command === undefined || whole.has(cookie))
      throw new Error(`a reply to nothing: ${cookie}`)
    if (type === 1) payload.copy(reply.data, Number(payload.readBigUInt64BE(0)) - command.offset, 8)
    else if (type === 2) {
      const from = Number(payload.readBigUInt64BE(0)) - command.offset
      reply.data.fill(0, from, from + payload.readUInt32BE(8))
    } else if (type === 5) {
      for (let at = 4; at < payload.length; at += 8)
        reply.extents.push([payload.readUInt32BE(at), payload.readUInt32BE(at + 4)])
    } else if (type !== 0) reply.error = payload.readUInt32BE(0)
    if (isLast) whole.set(cookie, { cookie, ...reply })
  }
  return whole
}

/** How many bytes follow a simple reply to a command that went well, and where they belong. */
function simpleData(command: Command | undefined): { readonly offset: number; readonly length: number } {
  return command?.type === CMD.READ ? command : { offset: 0, length: 0 }
}

/** A chunk, or a simple reply as the chunk that says the same. */
async function readMessage(client: RawClient, dataOf: (cookie: bigint) => ReturnType<typeof simpleData>) {
  const head = await client.read(16)
  const cookie = head.readBigUInt64BE(8)
  if (head.readUInt32BE(0) === 0x6744_6698) {
    const error = head.readUInt32BE(4)
    if (error !== 0) return { cookie, type: 0x8001, isLast: true, payload: Buffer.concat([u32(error), u16(0)]) }
    const { offset, length } = dataOf(cookie)
    const place = Buffer.alloc(8)
    place.writeBigUInt64BE(BigInt(offset))
    const payload = Buffer.concat([place, await client.read(length)])
    return { cookie, type: length > 0 ? 1 : 0, isLast: true, payload }
  }
  if (head.readUInt32BE(0) !== 0x668e_33ef) throw new Error(`no reply: ${head.toString('hex')}`)
  const payload = await client.read((await client.read(4)).readUInt32BE(0))
  return { cookie, type: head.readUInt16BE(6), isLast: (head.readUInt16BE(4) & 1) !== 0, payload }
}
