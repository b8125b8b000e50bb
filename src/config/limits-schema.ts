/** The form of `limits`: what the gateway bears before it knows who comes, and for how long. */
import * as z from 'zod'
import { parseCidr } from './cidr.ts'
import { count, text } from './schema-parts.ts'
import { parseStartups } from './startups.ts'
import { parseDuration, parseSize } from './units.ts'

const MiB = 1024 * 1024

/** Bytes in flight: less would be the room that is everybody's in any case. */
const inFlight = text(parseSize).refine(bytes => bytes >= MiB, { error: 'must be at least 1MiB', abort: true })

const penalties = z
  .strictObject({
    authfail: text(parseDuration)
      .prefault('5s')
      .describe('A certificate, key or login that is refused; an export that is.'),
    'grace-exceeded': text(parseDuration).prefault('10s').describe('A handshake that took longer than it may.'),
    invalid: text(parseDuration).prefault('10s').describe('Anything that is not the protocol.'),
    min: text(parseDuration).prefault('15s').describe('What is less keeps nobody out.'),
    max: text(parseDuration).prefault('10m').describe('Nobody is kept out for longer.'),
    exempt: z
      .array(text(parseCidr))
      .prefault(['127.0.0.0/8', '::1/128'])
      .describe('Networks that are charged nothing.'),
  })
  .describe('What failing costs an address, as in sshd_config(5); 0s: nothing.')

export const limits = z.strictObject({
  sessions: count.default(1000).describe('Sessions at once.'),
  'sessions-per-address': count.default(64).describe('Sessions at once from one address.'),
  'max-startups': text(parseStartups)
    .optional()
    .describe('START:RATE:FULL, as in sshd_config(5): half-open connections from which on some are dropped, and all.'),
  'per-source-penalties': penalties.prefault({}),
  negotiation: text(parseDuration)
    .refine(ms => ms > 0, {
      error: 'must be more than 0: a visitor who never finishes would stay for ever',
      abort: true,
    })
    .prefault('10s')
    .describe('How long a visitor may take to reach an export.'),
  idle: text(parseDuration)
    .prefault('0s')
    .describe('How long a session may be silent; 0s: for ever. A kernel client never comes back from a cut.'),
  drain: text(parseDuration)
    .prefault('30s')
    .describe('How long sessions have to end by themselves when the gateway ends.'),
  'in-flight-bytes': inFlight
    .prefault('64MiB')
    .describe(
      'Payload of requests and replies that a session may have in the gateway; above it, it is read no further.',
    ),
  'in-flight-bytes-total': inFlight
    .prefault('512MiB')
    .describe('The same of all sessions: who has most waits first. Each worker has its part of it.'),
})
