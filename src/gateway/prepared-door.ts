import type { DoorConfig } from '../config/config.ts'
import type { Accepted, Room, RoomReception } from '../doors/door.ts'
import { type SshDoorOptions, SshRoom } from '../doors/ssh.ts'
import { loadHostKeys } from '../doors/ssh-host-keys.ts'
import { type TcpDoorOptions, TcpRoom } from '../doors/tcp.ts'
import { type UnixDoorOptions, UnixRoom } from '../doors/unix.ts'
import type { Log } from '../observe/log.ts'
import { loadServerMaterial } from '../pki/material.ts'
import { placesOf } from './handed.ts'

/** A door with all that it needs loaded. */
export type Prepared =
  | { readonly kind: 'ssh'; readonly options: SshDoorOptions }
  | { readonly kind: 'tcp'; readonly options: TcpDoorOptions }
  | { readonly kind: 'unix'; readonly options: UnixDoorOptions }

/** Loads what doors need, by where they stand: the same configuration gives the same places. @throws MaterialError */
export function prepareDoors(
  configs: readonly DoorConfig[],
  negotiationMs: number,
  log: Log,
): ReadonlyMap<string, Prepared> {
  const places = placesOf(configs)
  return new Map(configs.map((config, at) => [places[at] ?? '', prepare(config, negotiationMs, log)]))
}

function prepare(config: DoorConfig, negotiationMs: number, log: Log): Prepared {
  if (config.kind === 'unix') return { kind: 'unix', options: config }
  const { host, port, proxyProtocol } = config
  const place = { host, port, proxyProtocol, headerMs: negotiationMs }
  if (config.kind === 'tcp') return { kind: 'tcp', options: { ...place, from: config.from } }
  if (config.kind === 'ssh') {
    const { keys, warnings } = loadHostKeys(config.hostKeys)
    for (const warning of warnings) log.warn({ warning }, 'key material')
    return { kind: 'ssh', options: { ...config, ...place, keys, loginMs: negotiationMs, log } }
  }
  const material = loadServerMaterial(config)
  for (const warning of material.warnings) log.warn({ warning }, 'key material')
  const { mode, clientCert } = config
  return { kind: 'tcp', options: { ...place, tls: { mode, clientCert, material, handshakeMs: negotiationMs } } }
}

/** Makes what is behind doors. */
export interface Rooms {
  ssh(options: SshDoorOptions, place: string): Room<SshDoorOptions>
  tcp(options: TcpDoorOptions, place: string): Room<TcpDoorOptions>
  unix(options: UnixDoorOptions, place: string): Room<UnixDoorOptions>
}

/** Rooms of this process, by their doors' places. */
export function roomsHere(receptionAt: (place: string) => RoomReception): Rooms {
  return {
    ssh: (options, place) => new SshRoom(options, receptionAt(place)),
    tcp: (options, place) => new TcpRoom(options, receptionAt(place)),
    unix: (_, place) => new UnixRoom(receptionAt(place)),
  }
}

/** Rooms of another process, which knows the same places. */
export function roomsElsewhere(handOver: (place: string, accepted: Accepted) => void): Rooms {
  const room = (_: unknown, place: string): Room<unknown> => ({
    take: accepted => handOver(place, accepted),
    reload: () => {},
    close: () => {},
  })
  return { ssh: room, tcp: room, unix: room }
}
