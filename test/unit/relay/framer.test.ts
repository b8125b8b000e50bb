import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { ProtocolError } from '../../../src/protocol/errors.ts'
import { Framer, type Grammar, Verdict } from '../../../src/relay/framer.ts'
import { everySplit, hex, overlaps } from '../../support/bytes.ts'

/** Messages of a verdict, a payload length, and that many bytes; a SWAP puts `ee`, the length and `ee` in place of the head. */
class ToyGrammar implements Grammar {
  payloadBytes = 0
  replacement = Buffer.alloc(0)

  headBytes(bytes: Buffer, at: number, available: number): number {
    // A head whose length shows only when its first byte is there: a verdict of 9 has none at all.
    if (available < 1) return 1
    if (bytes[at] === 9) throw new ProtocolError('BAD_MAGIC', 'toy')
    return 2
  }

  judge(bytes: Buffer, at: number): Verdict {
    this.payloadBytes = bytes[at + 1] ?? 0
    this.replacement = Buffer.from([0xee, this.payloadBytes, 0xee])
    const verdicts = [Verdict.KEEP, Verdict.DROP, Verdict.SWAP, Verdict.STOP]
    return verdicts[bytes[at] ?? 0] ?? Verdict.KEEP
  }
}

function framing(): { framer: Framer; pieces: Buffer[]; output: () => Buffer } {
  const pieces: Buffer[] = []
  // What is emitted may be judged in place and be overwritten by the next feed: it is written at once, as the relay does.
  const written: Buffer[] = []
  const framer = new Framer(new ToyGrammar(), bytes => {
    pieces.push(bytes)
    written.push(Buffer.from(bytes))
  })
  return { framer, pieces, output: () => Buffer.concat(written) }
}

describe('Framer', () => {
  it('lets a chunk in which nothing is refused leave as the same memory, whole', () => {
    const { framer, pieces } = framing()
    const chunk = hex('0003 616263', '0000', '0001 64')
    framer.feed(chunk)
    expect(pieces).toHaveLength(1)
    expect(pieces[0]).toBe(chunk)
  })

  it('lets payload that fills a chunk leave as the same memory', () => {
    const { framer, pieces } = framing()
    framer.feed(hex('0004 61'))
    const rest = hex('626364')
    framer.feed(rest)
    expect(pieces[1]).toBe(rest)
    expect(framer.atBoundary).toBe(true)
  })

  it('copies a head that was cut, and nothing else', () => {
    const { framer, pieces } = framing()
    framer.feed(hex('00'))
    const rest = hex('03 616263 0000')
    framer.feed(rest)
    expect(pieces.map(piece => piece.toString('hex'))).toEqual(['0003', '6162630000'])
    expect(pieces.map(piece => overlaps(piece, rest))).toEqual([false, true])
  })

  it('gives the same bytes for every cut: kept, dropped, swapped, and nothing after the last message', async () => {
    const stream = hex('0002 6161', '0103 626262', '0000', '0202 6363', '0100', '0001 64', '0305', '0001 65')
    const passes = hex('0002 6161', '0000', 'ee02ee 6363', '0001 64')
    await everySplit(stream, (chunks, how) => {
      const { framer, pieces, output } = framing()
      for (const chunk of chunks) framer.feed(chunk)
      expect(output(), how).toEqual(passes)
      // What was emitted stays as it was: the stream may not have sent it yet.
      expect(Buffer.concat(pieces), how).toEqual(passes)
      expect(framer.stopped, how).toBe(true)
    })
  })

  it('knows at every byte whether a message is whole', () => {
    const { framer } = framing()
    const boundary = [...hex('0002 6161', '0101 62', '0000')].map(byte => {
      framer.feed(Buffer.from([byte]))
      return framer.atBoundary
    })
    expect(boundary).toEqual([false, false, false, true, false, false, true, false, true])
  })

  it('says how much of a payload is still to come', () => {
    const { framer } = framing()
    framer.feed(hex('0005 6161'))
    expect(framer.payloadLeft).toBe(3)
    framer.feed(hex('6161'))
    expect(framer.payloadLeft).toBe(1)
  })

  it('sends a message of our own at once between two messages, also when the next head has begun', () => {
    const { framer, output } = framing()
    framer.feed(hex('0001 61', '00'))
    framer.inject(hex('aaaa'))
    framer.feed(hex('01 62'))
    expect(output()).toEqual(hex('0001 61', 'aaaa', '0001 62'))
  })

  it('keeps a message of our own back until the payload under way has passed', () => {
    const { framer, output } = framing()
    framer.feed(hex('0003 61'))
    framer.inject(hex('aaaa'))
    framer.inject(hex('bbbb'))
    expect(output()).toEqual(hex('0003 61'))
    framer.feed(hex('61'))
    expect(output()).toEqual(hex('0003 6161'))
    framer.feed(hex('61 0001 62'))
    expect(output()).toEqual(hex('0003 616161', 'aaaa', 'bbbb', '0001 62'))
  })

  it('keeps it back also while a payload is being dropped', () => {
    const { framer, output } = framing()
    framer.feed(hex('0001 61 0103 62'))
    framer.inject(hex('aaaa'))
    expect(output()).toEqual(hex('0001 61'))
    framer.feed(hex('6262'))
    expect(output()).toEqual(hex('0001 61', 'aaaa'))
  })

  it('throws what the grammar throws, at every cut', async () => {
    await everySplit(hex('0001 61', '0900'), (chunks, how) => {
      const { framer } = framing()
      expect(() => chunks.map(chunk => framer.feed(chunk)), how).toThrow(expect.objectContaining({ code: 'BAD_MAGIC' }))
    })
  })

  it('does what a plain reading of the messages does, for any messages, cuts and injections', () => {
    const message = fc.record({ verdict: fc.nat(2), payload: fc.uint8Array({ maxLength: 9 }) })
    const cuts = fc.array(fc.record({ size: fc.integer({ min: 1, max: 12 }), inject: fc.boolean() }), { maxLength: 40 })
    fc.assert(
      fc.property(fc.array(message, { maxLength: 12 }), cuts, (messages, pieces) => {
        const { framer, output } = framing()
        const stream = Buffer.concat(
          messages.map(({ verdict, payload }) => Buffer.from([verdict, payload.length, ...payload])),
        )
        let at = 0
        for (const { size, inject } of pieces) {
          framer.feed(Buffer.from(stream.subarray(at, at + size)))
          at = Math.min(at + size, stream.length)
          if (inject) framer.inject(hex('00ff'))
        }
        framer.feed(Buffer.from(stream.subarray(at)))
        expect(withoutInjected(output(), pieces.filter(piece => piece.inject).length)).toEqual(plainReading(messages))
      }),
    )
  })
})

/** What becomes of the messages when nobody cuts them. */
function plainReading(messages: readonly { verdict: number; payload: Uint8Array }[]): string[] {
  const kept = messages.filter(({ verdict }) => verdict !== Verdict.DROP)
  return kept.map(({ verdict, payload }) => {
    const head = verdict === Verdict.SWAP ? [0xee, payload.length, 0xee] : [verdict, payload.length]
    return Buffer.from([...head, ...payload]).toString('hex')
  })
}

/**
 * Splits output into messages, each of which tells where it ends, and takes `count` injected `00ff` out: one of them
 * inside a message would make the rest unreadable. (No message has a payload of 0xff, so they can not be mistaken.)
 */
function withoutInjected(output: Buffer, count: number): string[] {
  const messages: string[] = []
  let injected = 0
  let at = 0
  while (at < output.length) {
    if (output[at] === 0 && output[at + 1] === 0xff) {
      injected++
      at += 2
      continue
    }
    const size = (output[at] === 0xee ? 3 : 2) + (output[at + 1] ?? 0)
    messages.push(output.subarray(at, at + size).toString('hex'))
    at += size
  }
  expect(injected).toBe(count)
  return messages
}
