import type { Duplex } from 'node:stream'
import { DuplexStream } from '../stream/duplex-stream.ts'
import type { SshGate } from './ssh-gate.ts'

/** A channel that somebody has, and what it waits at with the others of its connection. */
export interface GatedChannel {
  readonly channel: Duplex
  readonly gate: SshGate
}

/**
 * A channel as a stream. What the connection has not sent of it can not be taken back: where the time to write is over, the
 * connection goes with that.
 */
export class SshStream extends DuplexStream {
  readonly #gate: SshGate
  #mayWrite = (): boolean => true

  constructor({ channel, gate }: GatedChannel) {
    super(channel)
    this.#gate = gate
  }

  override gate(mayWrite: () => boolean): void {
    this.#mayWrite = mayWrite
    super.gate(() => mayWrite() || this.#refuse())
  }

  override destroy(): void {
    if (!this.#mayWrite()) this.#refuse()
    super.destroy()
  }

  #refuse(): false {
    this.#gate.dropUnsent('the time to write is over')
    return false
  }
}
