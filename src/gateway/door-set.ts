/** The doors of a configuration: opened together, and changed together when another configuration takes its place. */
import type { DoorConfig } from '../config/config.ts'
import type { Door, GateReception } from '../doors/door.ts'
import type { Given, Listener } from '../doors/listen.ts'
import { openSshGate, type SshDoor } from '../doors/ssh.ts'
import { openTcpGate, type TcpDoor } from '../doors/tcp.ts'
import { openUnixGate, type UnixDoor } from '../doors/unix.ts'
import type { Log } from '../observe/log.ts'
import type { Handed } from './handed.ts'
import { type Prepared, prepareDoors, type Rooms } from './prepared-door.ts'

type Open =
  | { readonly kind: 'ssh'; readonly door: SshDoor; readonly prepared: Prepared }
  | { readonly kind: 'tcp'; readonly door: TcpDoor; readonly prepared: Prepared }
  | { readonly kind: 'unix'; readonly door: UnixDoor; readonly prepared: Prepared }

/** What doors are made with. */
export interface DoorSetOptions {
  /** By place. */
  readonly receptionAt: (place: string) => GateReception
  readonly rooms: Rooms
  readonly log: Log
  /** Sockets that listen already. */
  readonly handed: Handed
}

/** What a configuration changed. */
export interface DoorChanges {
  readonly opened: readonly string[]
  readonly closed: readonly string[]
}

export class DoorSet {
  readonly #receptionAt: DoorSetOptions['receptionAt']
  readonly #rooms: Rooms
  readonly #log: Log
  readonly #handed: Map<string, Given>
  #isReleased = false
  /** By what a door keeps as long as it is open: where it stands. */
  #open = new Map<string, Open>()

  constructor({ receptionAt, rooms, log, handed }: DoorSetOptions) {
    this.#receptionAt = receptionAt
    this.#rooms = rooms
    this.#log = log
    this.#handed = new Map(handed)
  }

  /** What the doors listen at, by place. */
  listeners(): ReadonlyMap<string, Listener> {
    return new Map(
      [...this.#open].flatMap(([place, { door }]) => {
        const listener = door.listener()
        return listener === undefined ? [] : [[place, listener] as const]
      }),
    )
  }

  /** Another process has the doors now: those who are in are kept to their rules, and no door is opened any more. */
  async release(): Promise<void> {
    this.#isReleased = true
    await Promise.all(this.doors.map(door => door.release()))
  }

  get doors(): readonly Door[] {
    return [...this.#open.values()].map(({ door }) => door)
  }

  /**
   * Opens the doors that are new, gives the others their new options, closes those that are gone. `commit` is called
   * when nothing can fail any more, before a door changes.
   * @throws MaterialError, DoorError; the doors are as they were then
   */
  async apply(configs: readonly DoorConfig[], negotiationMs: number, commit: () => void): Promise<DoorChanges> {
    const wanted = prepareDoors(configs, negotiationMs, this.#log)
    const gone = [...this.#open].filter(([place]) => !wanted.has(place))
    const added = await this.#openAll(
      this.#isReleased ? [] : [...wanted].filter(([place]) => !this.#open.has(place)),
      gone,
    )
    commit()
    const doors = new Map<string, Open>()
    for (const [place, prepared] of wanted) {
      const stays = this.#open.get(place)
      if (stays !== undefined) this.#reload(stays, prepared)
      const open = stays ?? added.get(place)
      if (open !== undefined) doors.set(place, { ...open, prepared })
    }
    this.#open = doors
    await Promise.all(gone.map(([, { door }]) => door.close()))
    return { opened: addresses([...added.values()]), closed: addresses(gone.map(([, open]) => open)) }
  }

  async close(): Promise<void> {
    await Promise.all(this.doors.map(door => door.close()))
  }

  /** All or none. Of the doors that are `gone`, those in the way of a new one on the same port are closed first. */
  async #openAll(
    wanted: readonly (readonly [string, Prepared])[],
    gone: readonly (readonly [string, Open])[],
  ): Promise<ReadonlyMap<string, Open>> {
    const opened = new Map<string, Open>()
    const ports = new Set(wanted.map(([, prepared]) => portOf(prepared)).filter(port => port !== undefined))
    const inTheWay = gone.filter(([, { prepared }]) => ports.has(portOf(prepared) ?? 0))
    await Promise.all(inTheWay.map(([, { door }]) => door.close()))
    try {
      for (const [place, prepared] of wanted) opened.set(place, await this.#openOne(place, prepared))
    } catch (error) {
      await Promise.all([...opened.values()].map(({ door }) => door.close()))
      for (const [place, { prepared }] of inTheWay) this.#open.set(place, await this.#openOne(place, prepared))
      throw error
    }
    return opened
  }

  #reload(open: Open, next: Prepared): void {
    try {
      if (open.kind === 'tcp' && next.kind === 'tcp') open.door.reload(next.options)
      else if (open.kind === 'ssh' && next.kind === 'ssh') open.door.reload(next.options)
      else if (open.kind === 'unix' && next.kind === 'unix') open.door.reload(next.options)
    } catch (error) {
      // Somebody has removed the socket's file; the door is still there for who is in.
      this.#log.error({ err: error, door: open.door.address }, 'door failed')
    }
  }

  async #openOne(place: string, prepared: Prepared): Promise<Open> {
    const reception = this.#receptionAt(place)
    const given = this.#handed.get(place)
    // Once: a door that has been closed is opened anew.
    this.#handed.delete(place)
    switch (prepared.kind) {
      case 'ssh': {
        const { kind } = prepared
        const options = { ...prepared.options, given }
        return { kind, door: await openSshGate(options, reception, this.#rooms.ssh(options, place)), prepared }
      }
      case 'tcp': {
        const { kind } = prepared
        const options = { ...prepared.options, given }
        return { kind, door: await openTcpGate(options, reception, this.#rooms.tcp(options, place)), prepared }
      }
      case 'unix': {
        const { kind } = prepared
        const options = { ...prepared.options, given }
        return { kind, door: await openUnixGate(options, reception, this.#rooms.unix(options, place)), prepared }
      }
      default:
        return prepared satisfies never
    }
  }
}

/** The port that a door takes for itself; undefined if any will do. */
function portOf(prepared: Prepared): number | undefined {
  return prepared.kind === 'unix' || prepared.options.port === 0 ? undefined : prepared.options.port
}

function addresses(open: readonly Open[]): readonly string[] {
  return open.map(({ door }) => door.address)
}
