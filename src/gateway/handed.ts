/**
 * Sockets that somebody else has opened for this gateway: a service manager, or the gateway before this one. Each belongs to one
 * place: a door, or a listener of the admin's.
 */
import { realpathSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { parseAddress } from '../config/cidr.ts'
import type { Config, DoorConfig } from '../config/config.ts'
import type { Given, Listener } from '../doors/listen.ts'
import type { SocketName } from '../platform/descriptors.ts'

/** By place. */
export type Handed = ReadonlyMap<string, Given>

/** Places that are no doors. */
export const AdminPlace = { SOCKET: 'admin', HTTP: 'admin-http' } as const

/** A socket that was opened for us. */
export interface GivenDescriptor {
  readonly fd: number
  /** FileDescriptorName= of the socket unit; that of the unit itself without one. */
  readonly name: string
}

/** The same, and where it is bound. */
export interface BoundDescriptor extends GivenDescriptor {
  readonly bound: SocketName
}

interface Want {
  readonly place: string
  /** What a descriptor may be named to be meant for it. */
  readonly name: string
  readonly at: SocketName
}

/** The listening socket of a place, if there is one. */
export function listenerAt(handed: Handed, place: string): Listener | undefined {
  const given = handed.get(place)
  return given !== undefined && 'fd' in given ? given : undefined
}

/** Where doors stand, in their order: the same doors have the same places. */
export function placesOf(doors: readonly DoorConfig[]): readonly string[] {
  const taken = new Set<string>()
  return doors.map(door => {
    const place = door.kind === 'unix' ? door.path : `${door.kind === 'ssh' ? 'ssh' : 'tcp'} ${door.host}:${door.port}`
    // Several doors may ask for any free port of one host.
    let key = place
    for (let nth = 2; taken.has(key); nth++) key = `${place} ${nth}`
    taken.add(key)
    return key
  })
}

/**
 * Finds the place of each descriptor: by the address where it is bound, else by its name, which is then the kind of door
 * (`tls`, `ssh`, `tcp`, `unix`), `admin` or `admin-http`. A name that is one of these is kept to. What has no place is `left`.
 */
export function matchDescriptors(
  descriptors: readonly BoundDescriptor[],
  config: Config,
): { readonly handed: Handed; readonly left: readonly BoundDescriptor[] } {
  const handed = new Map<string, Given>()
  const left = new Set(descriptors)
  const wants = wantsOf(config)
  const pair = (isMeant: (given: BoundDescriptor, want: Want) => boolean): void => {
    for (const want of wants.filter(({ place }) => !handed.has(place))) {
      const found = [...left].find(given => isMeant(given, want))
      if (found === undefined) continue
      handed.set(want.place, { fd: found.fd })
      left.delete(found)
    }
  }
  pair((given, want) => (!NAMES.includes(given.name) || given.name === want.name) && isSame(given.bound, want.at))
  pair((given, want) => given.name === want.name && (given.bound.kind === 'unix') === (want.at.kind === 'unix'))
  return { handed, left: [...left] }
}

const NAMES: readonly string[] = ['tls', 'ssh', 'tcp', 'unix', AdminPlace.SOCKET, AdminPlace.HTTP]

function wantsOf({ doors, admin }: Config): readonly Want[] {
  const places = placesOf(doors)
  const wants = doors.map((door, at): Want => {
    const bound = door.kind === 'unix' ? unixAt(door.path) : ipAt(door)
    return { place: places[at] ?? '', name: door.kind, at: bound }
  })
  const { socket, http } = admin ?? {}
  const own = [
    ...(socket === undefined ? [] : [{ place: AdminPlace.SOCKET, name: AdminPlace.SOCKET, at: unixAt(socket) }]),
    ...(http === undefined ? [] : [{ place: AdminPlace.HTTP, name: AdminPlace.HTTP, at: ipAt(http) }]),
  ]
  return [...wants, ...own]
}

const unixAt = (path: string): SocketName => ({ kind: 'unix', path })
const ipAt = ({ host, port }: { readonly host: string; readonly port: number }): SocketName => ({
  kind: 'ip',
  address: host,
  port,
})

function isSame(bound: SocketName, wanted: SocketName): boolean {
  if (bound.kind === 'unix') return wanted.kind === 'unix' && realPath(bound.path) === realPath(wanted.path)
  if (wanted.kind === 'unix' || bound.port !== wanted.port) return false
  // A name is one of this host's own; which one is for who has opened the socket to know.
  const [is, wants] = [parseAddress(bound.address), parseAddress(wanted.address)]
  return wants === undefined || (is?.family === wants.family && is.value === wants.value)
}

/** With the links of its folder resolved, as both may be written differently. */
function realPath(path: string): string {
  try {
    return join(realpathSync(dirname(path)), basename(path))
  } catch {
    return path
  }
}
