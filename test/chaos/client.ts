/** A client that writes stamped blocks, one after the other, through whatever gateway lets it in; and knows what was promised to it. */
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { stamp } from './recorder.ts'
import { REGION_BYTES, type World } from './world.ts'

const BLOCK = 4096
const BLOCKS = REGION_BYTES / BLOCK
const FLUSH_EVERY = 8
/** A storage that does not answer for so long is given up. */
const SILENCE_MS = 700
/** As long as anybody waits for a lease. */
const PATIENCE_MS = 25_000
const Cmd = { WRITE: 1, DISC: 2, FLUSH: 3 } as const

/** Where a client is in. */
export interface Standing {
  readonly client: number
  readonly session: number
  readonly place: number
  readonly sinceMs: number
}

/** What the storage has promised to a client: a write that was acknowledged, and whether a flush was after it. */
export interface Promised {
  readonly session: number
  readonly sequence: number
  readonly block: number
  flushed: boolean
}

export interface ChaosClient {
  readonly promised: readonly Promised[]
  standing(): Standing | undefined
  /** How long GO took where nobody was in the way, in ms. */
  readonly acquisitions: readonly number[]
  stop(): Promise<void>
}

export interface ClientOptions {
  readonly world: World
  readonly run: number
  readonly client: number
  readonly random: () => number
  /** Ends the session now and then, to let others in. */
  readonly generous: boolean
}

export function startClient({ world, run, client, random, generous }: ClientOptions): ChaosClient {
  const promised: Promised[] = []
  const acquisitions: number[] = []
  let standing: Standing | undefined
  let session = 0
  let isStopped = false
  let socket: Socket | undefined

  const visit = async (): Promise<void> => {
    const place = Math.floor(random() * world.places.length)
    const port = world.places[place]?.running.port('tcp') ?? 0
    session++
    socket = connect({ host: '127.0.0.1', port, localAddress: `127.0.0.${10 + client}`, noDelay: true })
    const read = reader(socket)
    try {
      await once(socket, 'connect', { signal: AbortSignal.timeout(SILENCE_MS) })
      await enter(socket, read, `disk-${run}`, acquisitions)
      standing = { client, session, place, sinceMs: performance.now() }
      await write(socket, read)
    } finally {
      standing = undefined
      socket.destroy()
    }
  }

  const write = async (to: Socket, read: Read): Promise<void> => {
    const most = generous ? 40 + Math.floor(random() * 100) : Infinity
    let open: Promised[] = []
    const send = (sequence: number): number => {
      const block = Math.floor(random() * BLOCKS)
      const payload = Buffer.alloc(BLOCK)
      stamp(payload, { run, client, session, sequence })
      to.write(Buffer.concat([request(Cmd.WRITE, run * REGION_BYTES + block * BLOCK, BLOCK), payload]))
      return block
    }
    // Who gets no answer has more to write: it lies in front of a gateway that hangs, and comes out of it late.
    const answer = (sequence: number): Promise<void> =>
      reply(read).catch((error: unknown) => {
        send(sequence + 1)
        throw error
      })
    for (let sequence = 1; sequence <= most && !isStopped; sequence++) {
      const block = send(sequence)
      await answer(sequence)
      open.push({ session, sequence, block, flushed: false })
      promised.push(...open.slice(-1))
      if (sequence % FLUSH_EVERY === 0) {
        to.write(request(Cmd.FLUSH, 0, 0))
        await answer(sequence)
        for (const each of open) each.flushed = true
        open = []
        await delay(5)
      }
    }
    to.end(request(Cmd.DISC, 0, 0))
  }

  const loop = (async () => {
    while (!isStopped) {
      await visit().catch(() => {})
      await delay(10 + random() * 40)
    }
  })()
  return {
    promised,
    acquisitions,
    standing: () => standing,
    stop: async () => {
      isStopped = true
      socket?.destroy()
      await loop
    },
  }
}

type Read = (bytes: number, boundMs: number) => Promise<Buffer>

/** Reads exactly so many bytes, in time. */
function reader(socket: Socket): Read {
  let bytes: Buffer = Buffer.alloc(0)
  let wake = (): void => {}
  let isGone = false
  socket.on('data', chunk => {
    bytes = Buffer.concat([bytes, chunk])
    wake()
  })
  const gone = (): void => {
    isGone = true
    wake()
  }
  socket.on('error', gone).on('close', gone)
  return async (count, boundMs) => {
    const timer = setTimeout(gone, boundMs)
    while (bytes.length < count && !isGone) {
      await new Promise<void>(resolve => {
        wake = resolve
      })
    }
    clearTimeout(timer)
    if (bytes.length < count) throw new Error('gone')
    const taken = bytes.subarray(0, count)
    bytes = bytes.subarray(count)
    return taken
  }
}

async function enter(socket: Socket, read: Read, name: string, acquisitions: number[]): Promise<void> {
  await read(18, PATIENCE_MS)
  const data = Buffer.alloc(6 + name.length)
  data.writeUInt32BE(name.length, 0)
  data.write(name, 4)
  const head = Buffer.alloc(20)
  head.writeUInt32BE(3, 0)
  head.write('IHAVEOPT', 4)
  head.writeUInt32BE(7, 12)
  head.writeUInt32BE(data.length, 16)
  const begin = performance.now()
  socket.write(Buffer.concat([head, data]))
  for (;;) {
    const answer = await read(20, PATIENCE_MS)
    await read(answer.readUInt32BE(16), PATIENCE_MS)
    const type = answer.readUInt32BE(12)
    if (type >= 0x8000_0000) throw new Error('refused')
    if (type === 1) break
  }
  acquisitions.push(performance.now() - begin)
}

async function reply(read: Read): Promise<void> {
  const head = await read(16, SILENCE_MS)
  if (head.readUInt32BE(0) !== 0x6744_6698 || head.readUInt32BE(4) !== 0) throw new Error('an error')
}

function request(type: number, offset: number, length: number): Buffer {
  const head = Buffer.alloc(28)
  head.writeUInt32BE(0x2560_9513, 0)
  head.writeUInt16BE(type, 6)
  head.writeBigUInt64BE(BigInt(offset), 16)
  head.writeUInt32BE(length, 24)
  return head
}
