import type { NetConnectOpts } from 'node:net'

/** A long line that is open. */
export interface SlowLine {
  /** On the loopback. */
  readonly port: number
  /** Connections that there have been. */
  readonly opened: number
  /** Connections that there are. */
  readonly open: number
  /** Resets the oldest connection, whatever is on its way. */
  cutOne(): void
  close(): Promise<void>
}

/** Opens a line to what `to` says of each connection, counted from 1: what is sent arrives after `delayMs`, and `windowBytes` are on their way at once at most. */
export function openSlowLine(options: {
  readonly to: (nth: number) => NetConnectOpts
  readonly delayMs: number
  readonly windowBytes: number
}): Promise<SlowLine>
