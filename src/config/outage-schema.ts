import { text } from './schema-parts.ts'
import { parseDuration, parseSize } from './units.ts'

const MAX_REPLAY_BYTES = 1024 ** 3

/** Keys of an export that say what becomes of sessions whose upstream dies. */
export const outageKeys = {
  reconnect: text(parseDuration)
    .prefault('60s')
    .describe('How long sessions wait for an upstream that has died, and go on with what was in flight. 0s: they end.'),
  'replay-buffer': text(parseSize)
    .refine(bytes => bytes <= MAX_REPLAY_BYTES, { error: 'must be at most 1GiB', abort: true })
    .prefault('0B')
    .describe(
      'Writes that are kept until they are flushed, for each session: an upstream that has lost them gets them again. Takes CAN_MULTI_CONN away.',
    ),
}
