import type { Config } from '../config/config.ts'
import { type BoundDescriptor, type GivenDescriptor, type Handed, matchDescriptors } from '../gateway/handed.ts'
import { areDescriptorsKnown, closeOnExec, isListening, type SocketName, socketName } from '../platform/descriptors.ts'
import { UsageError } from './errors.ts'

/** Finds out which door each descriptor of a service manager is for. @throws UsageError for one that is for none */
export function placeDescriptors(given: readonly GivenDescriptor[], config: Config): Handed {
  if (given.length > 0 && !areDescriptorsKnown()) {
    throw new UsageError('LISTEN_FDS: sockets that were opened for the gateway can not be used without koffi')
  }
  const { handed, left } = matchDescriptors(given.map(look), config)
  const [lost] = left
  if (lost === undefined) return handed
  const { fd, name, bound } = lost
  const named = name === '' ? '' : ` (${name})`
  throw new UsageError(
    `LISTEN_FDS: descriptor ${fd}${named} listens on ${textOf(bound)}, which is no door of ${config.file}`,
  )
}

function look(given: GivenDescriptor): BoundDescriptor {
  const { fd, name } = given
  const bound = socketName(fd)
  if (bound === undefined || !isListening(fd)) {
    throw new UsageError(
      `LISTEN_FDS: descriptor ${fd}${name === '' ? '' : ` (${name})`} is no stream socket that listens`,
    )
  }
  closeOnExec(fd)
  return { ...given, bound }
}

function textOf(bound: SocketName): string {
  if (bound.kind === 'unix') return bound.path
  return bound.address.includes(':') ? `[${bound.address}]:${bound.port}` : `${bound.address}:${bound.port}`
}
