import type { LimitsConfig } from '../config/config.ts'
import { gauge, type MetricFamily } from '../observe/metric-family.ts'
import { SessionMemory } from '../relay/session-memory.ts'
import { Memory } from '../stream/memory.ts'

/** What the sessions of this process may hold: its part of what the configuration gives to all processes. */
export class ProcessMemory {
  readonly #memory = new Memory()
  readonly #processes: number

  /** `processes` have sessions, and as much each. */
  constructor(processes: number) {
    this.#processes = processes
  }

  /** These limits hold from now on; `in-flight-bytes` for sessions that begin. */
  follow({ totalInFlightBytes }: LimitsConfig): void {
    this.#memory.setLimit(totalInFlightBytes / this.#processes)
  }

  /** For a session that begins. */
  session({ inFlightBytes }: LimitsConfig): SessionMemory {
    return new SessionMemory(this.#memory, inFlightBytes)
  }

  families(): readonly MetricFamily[] {
    const { heldBytes, limitBytes } = this.#memory
    return [
      gauge('nbdgate_in_flight_bytes', 'Payload of requests and replies that the gateway holds.', [[heldBytes]]),
      gauge('nbdgate_in_flight_bytes_limit', 'How much of it sessions may hold together.', [[limitBytes]]),
    ]
  }
}
