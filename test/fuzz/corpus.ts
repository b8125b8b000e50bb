/**
 * Inputs that were well-formed before somebody touched them. `corpus/NAME.hex` has one to a line; what follows `#` is for
 * readers. An input that has once broken something is added as it was, and is tried untouched each time.
 *
 * FUZZ_RUNS: how many inputs for each test (300); FUZZ_SEED: those of a run that failed, as fast-check has printed it.
 */
import { readFileSync } from 'node:fs'
import fc from 'fast-check'

const RUNS = Number(process.env.FUZZ_RUNS ?? '300')
const SEED = process.env.FUZZ_SEED
/** The first runs of each test are the inputs of the corpus as they are. */
export const SETTINGS = { numRuns: RUNS, ...(SEED !== undefined && { seed: Number(SEED) }) }

/** The inputs of a file. */
export function corpus(name: string): readonly Buffer[] {
  const text = readFileSync(new URL(`corpus/${name}.hex`, import.meta.url), 'latin1')
  const lines = text.split('\n').map(line => line.replace(/#.*/, '').replaceAll(/\s/g, ''))
  return lines.filter(line => line !== '').map(line => Buffer.from(line, 'hex'))
}

/** Numbers at which lengths and offsets go wrong. */
const EDGES = [
  0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0xfff, 0x1000, 0x1001, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff,
]

interface Change {
  readonly kind: 'flip' | 'edge' | 'cut' | 'insert' | 'repeat' | 'drop'
  /** Where, as a share of the input. */
  readonly at: number
  readonly value: number
  readonly bytes: Uint8Array
}

const change: fc.Arbitrary<Change> = fc.record({
  kind: fc.constantFrom('flip', 'edge', 'cut', 'insert', 'repeat', 'drop'),
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  value: fc.nat(),
  bytes: fc.uint8Array({ maxLength: 12 }),
})

function changed(input: Buffer, { kind, at, value, bytes }: Change): Buffer {
  const place = Math.min(input.length, Math.floor(at * (input.length + 1)))
  const [head, tail] = [input.subarray(0, place), input.subarray(place)]
  switch (kind) {
    case 'flip':
      return Buffer.concat([
        head,
        Buffer.from(tail.subarray(0, 1).map(byte => byte ^ (1 << (value % 8)))),
        tail.subarray(1),
      ])
    case 'edge': {
      const edge = Buffer.alloc(4)
      edge.writeUInt32BE(EDGES[value % EDGES.length] ?? 0)
      return Buffer.concat([head, edge.subarray(value % 3), tail.subarray(4 - (value % 3))])
    }
    case 'cut':
      return head
    case 'insert':
      return Buffer.concat([head, bytes, tail])
    case 'repeat':
      return Buffer.concat([head, tail, tail])
    case 'drop':
      return Buffer.concat([head, tail.subarray(1 + (value % 8))])
    default:
      return kind satisfies never
  }
}

/** Inputs of a corpus with a few changes each, now and then two of them together, or none of it at all. */
export function mutants(inputs: readonly Buffer[]): fc.Arbitrary<Buffer> {
  const one = fc.constantFrom(...inputs)
  const changes = fc.array(change, { maxLength: 4 })
  return fc.oneof(
    { weight: 6, arbitrary: fc.tuple(one, changes).map(([input, list]) => list.reduce(changed, input)) },
    {
      weight: 2,
      arbitrary: fc.tuple(one, one, changes).map(([a, b, list]) => list.reduce(changed, Buffer.concat([a, b]))),
    },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes)) },
  )
}
