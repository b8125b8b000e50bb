import type { Duplex, Writable } from 'node:stream'
import type { ByteStream } from './byte-stream.ts'

/** A stream that can be told when to write no more. */
export interface GatedStream extends ByteStream {
  /**
   * From now on `mayWrite` is asked before any bytes are handed to the system, also those that have waited in this
   * process; at its first no the stream is destroyed with all that waits.
   */
  gate(mayWrite: () => boolean): void
}

type Write = Writable['_write']
type Writev = NonNullable<Writable['_writev']>

/**
 * Makes a stream one that `gateWrites` can gate later without another shape: of two shapes V8 would have to look which it
 * has in every access of Node's, to each stream of the process, and small requests would take a tenth longer.
 */
export function prepareGate(duplex: Duplex): void {
  const { _write, _writev } = duplex
  duplex._write = _write
  if (typeof _writev === 'function') duplex._writev = _writev
}

/** What `gate` of a stream does: its Duplex writes in one place, once for all that was corked or has waited. */
export function gateWrites(duplex: Duplex, mayWrite: () => boolean): void {
  const write: Write = duplex._write.bind(duplex)
  const writev: Writev | undefined = duplex._writev?.bind(duplex)
  // Without an error: a channel of ssh2 that has one never says that it is closed.
  const drop = (done: () => void): void => {
    duplex.destroy()
    done()
  }
  duplex._write = (chunk, encoding, done) => (mayWrite() ? write(chunk, encoding, done) : drop(done))
  if (writev !== undefined) duplex._writev = (chunks, done) => (mayWrite() ? writev(chunks, done) : drop(done))
}
