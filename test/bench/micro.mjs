// `node test/bench/micro.mjs`: the parts by themselves, without sockets and clients: encoding and decoding of headers, and the
// relay between two streams in memory. Medians of many short runs; decisions are in decide.mjs, leases in leases.mjs.
import { build } from 'esbuild'
import { median } from './tools.mjs'

const { outputFiles } = await build({
  stdin: {
    contents: `
      export { decodeRequest, encodeRequest } from './src/protocol/request.ts'
      export { encodeSimpleReply } from './src/protocol/simple-reply.ts'
      export { Relay } from './src/relay/relay.ts'
      export { SessionMemory } from './src/relay/session-memory.ts'
      export { Throttle } from './src/relay/throttle.ts'
    `,
    resolveDir: process.cwd(),
  },
  bundle: true,
  format: 'esm',
  platform: 'node',
  write: false,
})
const source = Buffer.from(outputFiles[0].contents).toString('base64')
const { decodeRequest, encodeRequest, encodeSimpleReply, Relay, SessionMemory, Throttle } = await import(
  `data:text/javascript;base64,${source}`
)

const ROUNDS = 15
const READ = 0
const WRITE = 1
const FLAGS = 0x1 | 0x4 | 0x8 | 0x20 | 0x40

/** Median nanoseconds of one of `times`. */
function measure(what, times, run) {
  const samples = []
  for (let round = -3; round < ROUNDS; round++) {
    const begin = performance.now()
    run(times)
    if (round >= 0) samples.push(((performance.now() - begin) / times) * 1e6)
  }
  console.log(`${what}: ${median(samples).toFixed(0)} ns`)
}

const request = { flags: 0, type: READ, cookie: 7n, offset: 4096n, length: 4096 }
const encoded = encodeRequest(request)
measure('encode a request', 200_000, times => {
  for (let n = 0; n < times; n++) encodeRequest(request)
})
measure('decode a request', 200_000, times => {
  for (let n = 0; n < times; n++) decodeRequest(encoded)
})
measure('encode a simple reply', 200_000, times => {
  for (let n = 0; n < times; n++) encodeSimpleReply({ error: 0, cookie: 7n })
})

/** A stream in memory: what is written is forgotten, at once. */
class Memory {
  headroomBytes = 0
  unsentBytes = 0
  start(sink) {
    this.sink = sink
  }
  pause() {}
  resume() {}
  write(_bytes, sent) {
    if (sent !== undefined) queueMicrotask(sent)
  }
  gate() {}
  cork() {}
  uncork() {}
  release() {}
  end() {}
  destroy() {}
}

const turn = () => new Promise(resolve => setImmediate(resolve))

/** Requests through a relay and their replies back, `depth` of them in each chunk. */
async function relayed(what, { type, length, depth, times }) {
  const [client, upstream] = [new Memory(), new Memory()]
  const structured = { client: false, upstream: false }
  const sizeBytes = 2n ** 40n
  const early = Buffer.alloc(0)
  const memory = new SessionMemory()
  const relay = new Relay({
    client,
    upstream,
    sizeBytes,
    flags: FLAGS,
    structured,
    throttle: new Throttle(),
    early,
    memory,
  })
  void relay.run()
  const payload = Buffer.alloc(length)
  const each = (n, make) => Array.from({ length: n }, (_, cookie) => make(BigInt(cookie)))
  const out = Buffer.concat(
    each(depth, cookie => {
      const head = encodeRequest({ flags: 0, type, cookie, offset: cookie * BigInt(length), length })
      return type === WRITE ? Buffer.concat([head, payload]) : head
    }),
  )
  const back = Buffer.concat(
    each(depth, cookie => {
      const head = encodeSimpleReply({ error: 0, cookie })
      return type === READ ? Buffer.concat([head, payload]) : head
    }),
  )
  const samples = []
  for (let round = -3; round < ROUNDS; round++) {
    const begin = performance.now()
    for (let n = 0; n < times; n++) {
      client.sink.data(out)
      await turn()
      // Requests go out under cookies of the relay's own.
      for (let nth = 0; nth < depth; nth++)
        out.copy(back, (back.length / depth) * nth + 8, (out.length / depth) * nth + 8, (out.length / depth) * nth + 16)
      upstream.sink.data(back)
      await turn()
    }
    if (round >= 0) samples.push(((performance.now() - begin) / (times * depth)) * 1e6)
  }
  if (relay.hasEnded) throw new Error('the relay did not like it')
  const ns = median(samples)
  console.log(`${what}: ${ns.toFixed(0)} ns each, ${((length / ns) * 1e9 * 2 ** -30).toFixed(1)} GiB/s`)
}

await relayed('relay READ 4 KiB, depth 1', { type: READ, length: 4096, depth: 1, times: 20_000 })
await relayed('relay READ 4 KiB, depth 32', { type: READ, length: 4096, depth: 32, times: 2000 })
await relayed('relay READ 256 KiB, depth 4', { type: READ, length: 262_144, depth: 4, times: 2000 })
await relayed('relay WRITE 4 KiB, depth 32', { type: WRITE, length: 4096, depth: 32, times: 2000 })
await relayed('relay WRITE 256 KiB, depth 4', { type: WRITE, length: 262_144, depth: 4, times: 2000 })
