import type { TLSSocket } from 'node:tls'

/** A session that has written less than this is likely to do no more: it begins and then is idle, or is looked at by a tool. */
const GROWN_BYTES = 1024 * 1024

/** Most bytes of a write until then: what Node takes its smallest buffer for, of 16 KiB. */
const PIECE_BYTES = 16_383

type Done = (error?: Error | null) => void
type Chunk = { readonly chunk: Buffer; readonly encoding: BufferEncoding }

/**
 * Keeps the memory of a TLS socket small until it has written a MiB. Node enciphers a write whole, or all that waited together,
 * into a buffer that stays as large as the largest write was until the socket closes (NodeBIO in Node's src/crypto): writes of
 * many hundred KiB are faster by a tenth, and hold as much in each idle session. Until then a large write leaves in pieces, each
 * when the one before it has left. Not for a stream that is gated: the gate would be asked once for all pieces.
 */
export function startSlowly(socket: TLSSocket): void {
  const write = socket._write.bind(socket)
  const writev = socket._writev?.bind(socket)
  if (writev === undefined) return
  let leftBytes = GROWN_BYTES
  const writePieces = (chunks: Chunk[], done: Done): void => {
    const pieces = cut(chunks)
    const next: Done = error => {
      const piece = pieces.shift()
      if (error || piece === undefined) done(error)
      else writev(piece, next)
    }
    next()
  }
  const mayLeaveWhole = (bytes: number): boolean => {
    leftBytes -= bytes
    return leftBytes < 0 || bytes <= PIECE_BYTES
  }
  socket._write = (chunk: Buffer, encoding, done) => {
    if (leftBytes < 0 || mayLeaveWhole(chunk.length)) write(chunk, encoding, done)
    else writePieces([{ chunk, encoding }], done)
  }
  socket._writev = (chunks, done) => {
    if (leftBytes < 0 || mayLeaveWhole(chunks.reduce((sum, { chunk }) => sum + chunk.length, 0))) writev(chunks, done)
    else writePieces(chunks, done)
  }
}

/** The same bytes in groups of PIECE_BYTES, the last one of the rest; nothing is copied. */
function cut(chunks: Chunk[]): Chunk[][] {
  const pieces: Chunk[][] = []
  let piece: Chunk[] = []
  let room = 0
  for (const { chunk, encoding } of chunks) {
    for (let begin = 0; begin < chunk.length; ) {
      if (room === 0) {
        piece = []
        pieces.push(piece)
        room = PIECE_BYTES
      }
      const part = chunk.subarray(begin, begin + room)
      piece.push({ chunk: part, encoding })
      begin += part.length
      room -= part.length
    }
  }
  return pieces
}
