/** What the gateway that is taken over gives to the process that it starts: its sockets, and a channel to itself. */
import { closeSync, rmSync } from 'node:fs'
import * as z from 'zod'
import type { Listener } from '../doors/listen.ts'
import { SEAM } from '../gateway/calls.ts'
import type { ElderChannel } from '../gateway/elder.ts'
import type { Handed } from '../gateway/handed.ts'
import { closeOnExec } from '../platform/descriptors.ts'
import { UsageError } from './errors.ts'

const VARIABLE = 'NBDGATE_HANDOVER'
/** Behind standard input and the outputs there is the channel. */
const FIRST_DESCRIPTOR = 4

const form = z.object({
  seam: z.number(),
  listeners: z.array(z.object({ place: z.string(), isOurs: z.boolean() })),
})

/** A socket, and the place of the gateway that it is for. */
export interface PlacedListener extends Listener {
  readonly place: string
}

/** What a process gets that takes over. */
export interface Inheritance {
  readonly listeners: readonly PlacedListener[]
  readonly elder: ElderChannel
}

/** Variables for a process that gets these sockets as its descriptors from `FIRST_DESCRIPTOR` on. */
export function inheritanceOf(listeners: readonly PlacedListener[]): Record<string, string> {
  const named = listeners.map(({ place, isOurs }) => ({ place, isOurs: isOurs === true }))
  return { [VARIABLE]: JSON.stringify({ seam: SEAM, listeners: named }) }
}

/**
 * Takes what this process was started with; undefined: nobody has handed anything over.
 * @throws UsageError if that was another version, with which there is no talking
 */
export function takeInheritance(environment: Record<string, string | undefined>): Inheritance | undefined {
  const text = environment[VARIABLE]
  delete environment[VARIABLE]
  if (text === undefined || process.send === undefined) return undefined
  const { seam, listeners } = form.parse(JSON.parse(text))
  if (seam !== SEAM)
    throw new UsageError('the gateway that runs is of another version: it can not be taken over, but restarted')
  return {
    listeners: listeners.map(({ place, isOurs }, at) => {
      const fd = FIRST_DESCRIPTOR + at
      closeOnExec(fd)
      return { place, isOurs, fd }
    }),
    elder: {
      // What can not be sent any more is not missed: the end of the channel says so.
      send: message => void process.send?.(message, undefined, {}, () => {}),
      listen: (receive, closed) => {
        process.on('message', receive)
        process.once('disconnect', closed)
        if (!process.connected) closed()
      },
    },
  }
}

/** The sockets by place. */
export function handedOf({ listeners }: Inheritance): Handed {
  return new Map(listeners.map(({ place, fd, isOurs }) => [place, { fd, isOurs: isOurs === true }]))
}

/** Closes those that this configuration has no place for. */
export function closeUnused({ listeners }: Inheritance, places: ReadonlySet<string>): void {
  for (const { place, fd, isOurs } of listeners) {
    if (places.has(place)) continue
    closeSync(fd)
    if (isOurs === true && place.startsWith('/')) rmSync(place, { force: true })
  }
}
