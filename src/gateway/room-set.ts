import type { DoorConfig } from '../config/config.ts'
import type { Accepted, Room } from '../doors/door.ts'
import type { Log } from '../observe/log.ts'
import { type Prepared, prepareDoors, type Rooms } from './prepared-door.ts'

interface Open {
  readonly take: (accepted: Accepted) => void
  readonly reload: (prepared: Prepared) => void
  readonly close: () => void
}

/** The rooms of doors whose gates are in another process. */
export class RoomSet {
  readonly #rooms: Rooms
  readonly #log: Log
  /** By the door's place. */
  #open: ReadonlyMap<string, Open> = new Map()

  constructor(rooms: Rooms, log: Log) {
    this.#rooms = rooms
    this.#log = log
  }

  /** Loads what the doors of a configuration need, and returns what puts it into force. @throws MaterialError */
  prepare(configs: readonly DoorConfig[], negotiationMs: number): () => void {
    const wanted = prepareDoors(configs, negotiationMs, this.#log)
    return () => {
      const before = this.#open
      this.#open = new Map([...wanted].map(([place, prepared]) => [place, this.#change(before, place, prepared)]))
      for (const [place, { close }] of before) if (!wanted.has(place)) close()
    }
  }

  /** Takes a connection; false if the door is not there any more. */
  take(place: string, accepted: Accepted): boolean {
    const room = this.#open.get(place)
    room?.take(accepted)
    return room !== undefined
  }

  close(): void {
    for (const { close } of this.#open.values()) close()
  }

  #change(before: ReadonlyMap<string, Open>, place: string, prepared: Prepared): Open {
    const stays = before.get(place)
    stays?.reload(prepared)
    return stays ?? this.#openOne(place, prepared)
  }

  /** A place is of one kind: its name begins with it. */
  #openOne(place: string, prepared: Prepared): Open {
    switch (prepared.kind) {
      case 'ssh': {
        const room = this.#rooms.ssh(prepared.options, place)
        return open(room, next => next.kind === 'ssh' && room.reload(next.options))
      }
      case 'tcp': {
        const room = this.#rooms.tcp(prepared.options, place)
        return open(room, next => next.kind === 'tcp' && room.reload(next.options))
      }
      case 'unix': {
        const room = this.#rooms.unix(prepared.options, place)
        return open(room, next => next.kind === 'unix' && room.reload(next.options))
      }
      default:
        return prepared satisfies never
    }
  }
}

function open(room: Pick<Room<never>, 'take' | 'close'>, reload: (prepared: Prepared) => unknown): Open {
  return { take: accepted => room.take(accepted), reload: next => void reload(next), close: () => room.close() }
}
