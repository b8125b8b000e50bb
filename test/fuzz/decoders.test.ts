// Whatever bytes or text come from outside: each decoder ends in a value, a refusal or the error that is its own, and in nothing else.

import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { parseCidr } from '../../src/config/cidr.ts'
import { parseEndpoint } from '../../src/config/endpoint.ts'
import { ConfigError } from '../../src/config/errors.ts'
import { parseConfig } from '../../src/config/load.ts'
import { parseStartups } from '../../src/config/startups.ts'
import { parseDuration, parseRate, parseSize } from '../../src/config/units.ts'
import { parseUpstreamUri } from '../../src/config/upstream-uri.ts'
import { readCrl } from '../../src/pki/crl.ts'
import { readItems } from '../../src/pki/der-reader.ts'
import { parseWho } from '../../src/policy/who.ts'
import { ProtocolError } from '../../src/protocol/errors.ts'
import { decodeExportNameReply, decodeGreeting, decodeOldstyle } from '../../src/protocol/handshake.ts'
import { decodeInfoReply, decodeInfoRequest } from '../../src/protocol/info.ts'
import { decodeMetaContext, decodeMetaQuery } from '../../src/protocol/meta-context.ts'
import { decodeOptionHeader, decodeOptionReplyHeader, decodeServerEntry } from '../../src/protocol/option.ts'
import { decodeProxyHeader } from '../../src/protocol/proxy-header.ts'
import { decodeRequest } from '../../src/protocol/request.ts'
import { decodeSimpleReply } from '../../src/protocol/simple-reply.ts'
import { decodeChunk } from '../../src/protocol/structured-reply.ts'
import { parseAuthorizedKeys } from '../../src/ssh/authorized-keys.ts'
import { decodeCertificate } from '../../src/ssh/certificate.ts'
import { parsePlainKeys, parseRevokedKeys } from '../../src/ssh/key-file.ts'
import { decodePublicKey } from '../../src/ssh/public-key.ts'
import { corpus, mutants, SETTINGS } from './corpus.ts'

interface Decoder {
  readonly decode: (bytes: Buffer) => unknown
  /** The error that it may throw. */
  readonly throws: abstract new (
    ...args: never[]
  ) => Error
  /** It is given so many bytes, never more or less. */
  readonly size?: number
}

/** What throws nothing. */
class Nothing extends Error {}

const protocol = (decode: Decoder['decode'], size?: number): Decoder => ({
  decode,
  throws: ProtocolError,
  ...(size !== undefined && { size }),
})
const text = (parse: (text: string) => unknown, throws: Decoder['throws'] = Nothing): Decoder => ({
  decode: bytes => parse(bytes.toString()),
  throws,
})

/** By the file of the corpus that has its inputs. */
const DECODERS: Readonly<Record<string, Readonly<Record<string, Decoder>>>> = {
  heads: {
    greeting: protocol(decodeGreeting, 18),
    'oldstyle greeting': protocol(decodeOldstyle, 152),
    'reply to EXPORT_NAME': protocol(decodeExportNameReply, 10),
    'head of an option': protocol(decodeOptionHeader, 16),
    'head of an option reply': protocol(decodeOptionReplyHeader, 20),
    request: protocol(decodeRequest, 28),
    'simple reply': protocol(decodeSimpleReply, 16),
    'head of a chunk': protocol(decodeChunk, 20),
  },
  data: {
    'data of INFO and GO': protocol(decodeInfoRequest),
    'data of INFO replies': protocol(decodeInfoReply),
    'entry of LIST': protocol(decodeServerEntry),
    'query of metadata contexts': protocol(decodeMetaQuery),
    'metadata context': protocol(decodeMetaContext),
  },
  proxy: { 'PROXY header': protocol(decodeProxyHeader) },
  ssh: {
    'public key': { decode: decodePublicKey, throws: Nothing },
    certificate: { decode: decodeCertificate, throws: Nothing },
  },
  der: {
    'DER items': { decode: readItems, throws: RangeError },
    'revocation list': {
      decode: bytes => readCrl(`-----BEGIN X509 CRL-----\n${bytes.toString('base64')}\n-----END X509 CRL-----\n`),
      throws: RangeError,
    },
  },
  texts: {
    'upstream URI': text(parseUpstreamUri),
    'authorized keys': text(parseAuthorizedKeys),
    'plain keys': text(parsePlainKeys),
    'revoked keys': text(parseRevokedKeys),
    who: text(who => parseWho(who)),
    network: text(parseCidr),
    endpoint: text(parseEndpoint),
    duration: text(parseDuration),
    size: text(parseSize),
    rate: text(parseRate),
    startups: text(parseStartups),
    configuration: text(yaml => parseConfig(yaml, 'nbdgate.yaml'), ConfigError),
  },
}

function fitted(bytes: Buffer, size: number | undefined): Buffer {
  return size === undefined ? bytes : Buffer.concat([bytes, Buffer.alloc(size)]).subarray(0, size)
}

/** Throws what the decoder may not throw. */
function hold({ decode, throws, size }: Decoder, bytes: Buffer): void {
  const input = fitted(Buffer.from(bytes), size)
  const before = Buffer.from(input)
  try {
    decode(input)
  } catch (error) {
    if (!(error instanceof throws)) throw error
  }
  expect(input).toEqual(before)
}

for (const [file, decoders] of Object.entries(DECODERS)) {
  describe(`whatever is made of corpus/${file}.hex`, () => {
    const inputs = corpus(file)
    for (const [name, decoder] of Object.entries(decoders)) {
      it(`${name}: a value, a refusal or its error`, () => {
        for (const input of inputs) hold(decoder, input)
        fc.assert(
          fc.property(mutants(inputs), bytes => hold(decoder, bytes)),
          SETTINGS,
        )
      })
    }
  })
}

it('the corpus has an input that each decoder takes', () => {
  const taken = Object.entries(DECODERS).flatMap(([file, decoders]) =>
    Object.entries(decoders).map(([name, decoder]) => [name, corpus(file).some(input => takes(decoder, input))]),
  )
  expect(taken.filter(([, isTaken]) => isTaken !== true)).toEqual([])
})

/** Whether it makes a value of it, and no refusal. */
function takes({ decode, size }: Decoder, bytes: Buffer): boolean {
  try {
    const value = decode(fitted(bytes, size))
    const isNo = value === undefined || typeof value === 'string'
    return !isNo && !(typeof value === 'object' && value !== null && 'ok' in value && value.ok === false)
  } catch {
    return false
  }
}
