/** A relay in front of a real NBD server that keeps a record of every WRITE, in the order in which they begin to reach the server. */
import { connect, createServer, type Server, type Socket } from 'node:net'

/** One WRITE, as the first bytes of its payload say it. */
export interface Recorded {
  readonly atMs: number
  readonly run: number
  readonly client: number
  readonly session: number
  readonly sequence: number
  readonly offset: number
  /** Its payload has come to the end: of one that is cut off the server does nothing. */
  isWhole: boolean
}

export interface Recorder {
  readonly writes: readonly Recorded[]
  stop(): Promise<void>
}

const STAMP_BYTES = 16
const OPTION_MAGIC = Buffer.from('IHAVEOPT')
const REQUEST_MAGIC = 0x2560_9513
const REQUEST_BYTES = 28
const CMD_WRITE = 1

/** What a payload begins with. */
export function stamp(
  payload: Buffer,
  { run, client, session, sequence }: Omit<Recorded, 'atMs' | 'offset' | 'isWhole'>,
): void {
  for (const [index, value] of [run, client, session, sequence].entries()) payload.writeUInt32BE(value, index * 4)
}

/** Listens at `path` and passes all on to the server at `behind`. */
export async function startRecorder(path: string, behind: string): Promise<Recorder> {
  const writes: Recorded[] = []
  const sockets = new Set<Socket>()
  const server: Server = createServer(socket => {
    const upstream = connect(behind)
    for (const each of [socket, upstream]) sockets.add(each.on('error', () => {}))
    const feed = recording(writes)
    socket.on('data', (bytes: Buffer) => {
      feed(bytes)
      if (!upstream.destroyed) upstream.write(bytes)
    })
    upstream.pipe(socket)
    socket.on('end', () => upstream.end())
    socket.on('close', () => upstream.end())
    upstream.on('close', () => socket.destroy())
  })
  await new Promise<void>(resolve => server.listen(path, resolve))
  return {
    writes,
    stop: async () => {
      for (const socket of sockets) socket.destroy()
      await new Promise(resolve => server.close(resolve))
    },
  }
}

/** Reads what a client sends: its flags, options, requests. */
function recording(writes: Recorded[]): (bytes: Buffer) => void {
  let rest: Buffer = Buffer.alloc(0)
  let skip = 4
  let coming: Recorded | undefined
  return bytes => {
    rest = Buffer.concat([rest, bytes])
    for (;;) {
      if (rest.length < skip) return
      rest = rest.subarray(skip)
      skip = 0
      if (coming !== undefined) coming.isWhole = true
      coming = undefined
      if (rest.length < REQUEST_BYTES) {
        const isOption = rest.length >= 16 && rest.subarray(0, 8).equals(OPTION_MAGIC)
        if (!isOption) return
      }
      if (rest.subarray(0, 8).equals(OPTION_MAGIC)) {
        skip = 16 + rest.readUInt32BE(12)
        continue
      }
      if (rest.readUInt32BE(0) !== REQUEST_MAGIC)
        throw new Error(`neither option nor request: ${rest.toString('hex', 0, 8)}`)
      const isWrite = rest.readUInt16BE(6) === CMD_WRITE
      if (isWrite && rest.length < REQUEST_BYTES + STAMP_BYTES) return
      skip = REQUEST_BYTES + (isWrite ? rest.readUInt32BE(24) : 0)
      if (isWrite) {
        coming = recordOf(rest)
        writes.push(coming)
      }
    }
  }
}

function recordOf(request: Buffer): Recorded {
  const [run = 0, client = 0, session = 0, sequence = 0] = [0, 4, 8, 12].map(at =>
    request.readUInt32BE(REQUEST_BYTES + at),
  )
  const offset = Number(request.readBigUInt64BE(16))
  return { atMs: performance.now(), run, client, session, sequence, offset, isWhole: false }
}
