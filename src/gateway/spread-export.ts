import { TransmissionFlag } from '../protocol/constants.ts'
import type { DialQueue } from '../upstreams/dial-queue.ts'
import { UpstreamError } from '../upstreams/errors.ts'
import { Spread } from '../upstreams/spread.ts'
import { bidFarewell } from './farewell.ts'
import { type OpenExport, type Opening, openExport } from './open-export.ts'

/**
 * An open export over as many connections as its upstream is configured with: what cannot be had of them is done without,
 * and `notSpread` is told. Never rejects for that. Nothing is dialled where the upstream does not promise that several
 * connections see the same, and none is used if one of them shows something else.
 */
export async function spreadExport(opened: OpenExport, opening: Opening, dials: DialQueue): Promise<OpenExport> {
  const { upstream, notSpread = () => {} } = opening
  const count = upstream.kind === 'file' ? 1 : (upstream.connections ?? 1)
  if (count <= 1) return opened
  // proto.md, "NBD_FLAG_CAN_MULTI_CONN": without it, SHOULD NOT multiplex commands over more than one connection.
  if ((opened.upstreamFlags & TransmissionFlag.CAN_MULTI_CONN) === 0) {
    notSpread('the upstream does not offer CAN_MULTI_CONN')
    return opened
  }
  const contexts = { how: 'keep', queries: opened.contextIds.size === 0 ? [] : opened.contexts } as const
  const dial = (lane: number) => dials.run(upstream, () => openExport({ ...opening, contexts, lane }))
  const dialled = await Promise.allSettled(Array.from({ length: count - 1 }, (_, at) => dial(at + 1)))
  const others = dialled.flatMap(each => (each.status === 'fulfilled' ? [each.value] : []))
  const failures = dialled.flatMap((each): unknown[] => (each.status === 'rejected' ? [each.reason] : []))
  const isOther = others.some(other => !isSame(opened, other))
  const bug = failures.find(failure => !(failure instanceof UpstreamError))
  if (isOther || bug !== undefined || others.length === 0) {
    for (const { stream } of others) bidFarewell(stream, 'transmission')
  }
  if (bug !== undefined) {
    bidFarewell(opened.stream, 'transmission')
    throw bug
  }
  if (isOther) {
    notSpread('the upstream shows another export on another connection')
    return opened
  }
  const [failure] = failures
  if (failure instanceof Error) notSpread(`${others.length + 1} of ${count} connections: ${failure.message}`)
  if (others.length === 0) return opened
  const streams = [opened, ...others].map(({ stream }) => stream)
  return { ...opened, stream: new Spread(streams, opened.structured.upstream) }
}

/** Whether two connections answer alike, bit by bit: replies of both become one stream. */
function isSame(one: OpenExport, other: OpenExport): boolean {
  const { minimum, preferred, maximumPayload } = one.blockSize
  const ids = [...other.contextIds]
  return (
    one.sizeBytes === other.sizeBytes &&
    one.upstreamFlags === other.upstreamFlags &&
    one.structured.upstream === other.structured.upstream &&
    minimum === other.blockSize.minimum &&
    preferred === other.blockSize.preferred &&
    maximumPayload === other.blockSize.maximumPayload &&
    ids.length === one.contextIds.size &&
    ids.every(([id, at]) => one.contextIds.get(id) === at)
  )
}
