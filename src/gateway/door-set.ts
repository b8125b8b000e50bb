/** The doors of a configuration: opened together, and changed together when another configuration takes its place. */
import type { DoorConfig } from '../config/config.ts'
import type { Door, Reception } from '../doors/door.ts'
import { openSshDoor, type SshDoor, type SshDoorOptions } from '../doors/ssh.ts'
import { loadHostKeys } from '../doors/ssh-host-keys.ts'
import { openTcpDoor, type TcpDoor, type TcpDoorOptions } from '../doors/tcp.ts'
import { openUnixDoor, type UnixDoor, type UnixDoorOptions } from '../doors/unix.ts'
import type { Log } from '../observe/log.ts'
import { loadServerMaterial } from '../pki/material.ts'

/** A door with all that it needs loaded. */
type Prepared =
  | { readonly kind: 'ssh'; readonly options: SshDoorOptions }
  | { readonly kind: 'tcp'; readonly options: TcpDoorOptions }
  | { readonly kind: 'unix'; readonly options: UnixDoorOptions }

type Open =
  | { readonly kind: 'ssh'; readonly door: SshDoor; readonly prepared: Prepared }
  | { readonly kind: 'tcp'; readonly door: TcpDoor; readonly prepared: Prepared }
  | { readonly kind: 'unix'; readonly door: UnixDoor; readonly prepared: Prepared }

/** What a configuration changed. */
export interface DoorChanges {
  readonly opened: readonly string[]
  readonly closed: readonly string[]
}

export class DoorSet {
  readonly #reception: Reception
  readonly #log: Log
  /** By what a door keeps as long as it is open: where it stands. */
  #open = new Map<string, Open>()

  constructor(reception: Reception, log: Log) {
    this.#reception = reception
    this.#log = log
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
    const wanted = new Map<string, Prepared>()
    for (const config of configs) {
      const prepared = this.#prepare(config, negotiationMs)
      wanted.set(placeFor(prepared, wanted), prepared)
    }
    const gone = [...this.#open].filter(([place]) => !wanted.has(place))
    const added = await this.#openAll(
      [...wanted].filter(([place]) => !this.#open.has(place)),
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

  #prepare(config: DoorConfig, negotiationMs: number): Prepared {
    if (config.kind === 'unix') return { kind: 'unix', options: config }
    const { host, port, proxyProtocol } = config
    const place = { host, port, proxyProtocol, headerMs: negotiationMs }
    if (config.kind === 'tcp') return { kind: 'tcp', options: { ...place, from: config.from } }
    if (config.kind === 'ssh') {
      const { keys, warnings } = loadHostKeys(config.hostKeys)
      for (const warning of warnings) this.#log.warn({ warning }, 'key material')
      return { kind: 'ssh', options: { ...config, ...place, keys, loginMs: negotiationMs, log: this.#log } }
    }
    const material = loadServerMaterial(config)
    for (const warning of material.warnings) this.#log.warn({ warning }, 'key material')
    const { mode, clientCert } = config
    return { kind: 'tcp', options: { ...place, tls: { mode, clientCert, material, handshakeMs: negotiationMs } } }
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
      for (const [place, prepared] of wanted) opened.set(place, await this.#openOne(prepared))
    } catch (error) {
      await Promise.all([...opened.values()].map(({ door }) => door.close()))
      for (const [place, { prepared }] of inTheWay) this.#open.set(place, await this.#openOne(prepared))
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

  async #openOne(prepared: Prepared): Promise<Open> {
    switch (prepared.kind) {
      case 'ssh':
        return { kind: 'ssh', door: await openSshDoor(prepared.options, this.#reception), prepared }
      case 'tcp':
        return { kind: 'tcp', door: await openTcpDoor(prepared.options, this.#reception), prepared }
      case 'unix':
        return { kind: 'unix', door: await openUnixDoor(prepared.options, this.#reception), prepared }
      default:
        return prepared satisfies never
    }
  }
}

function placeFor(prepared: Prepared, taken: ReadonlyMap<string, unknown>): string {
  const { kind, options } = prepared
  const place = kind === 'unix' ? options.path : `${kind} ${options.host}:${options.port}`
  // Several doors may ask for any free port of one host.
  let key = place
  for (let nth = 2; taken.has(key); nth++) key = `${place} ${nth}`
  return key
}

/** The port that a door takes for itself; undefined if any will do. */
function portOf(prepared: Prepared): number | undefined {
  return prepared.kind === 'unix' || prepared.options.port === 0 ? undefined : prepared.options.port
}

function addresses(open: readonly Open[]): readonly string[] {
  return open.map(({ door }) => door.address)
}
