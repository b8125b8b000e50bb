import { resolve } from 'node:path'
import { Command } from 'commander'
import type { UpstreamConfig } from '../config/config.ts'
import { parseUpstreamUri } from '../config/upstream-uri.ts'
import { enter, greet, listExports, OptionRefused } from '../negotiation/client.ts'
import type { ListEntry } from '../negotiation/host.ts'
import { TransmissionFlag } from '../protocol/constants.ts'
import { flagNames } from '../protocol/names.ts'
import { printable } from '../protocol/strings.ts'
import { Wire } from '../stream/wire.ts'
import { connectUpstream } from '../upstreams/connect.ts'
import { UsageError } from './errors.ts'

/** How long the whole probe may take. */
const PROBE_MS = 10_000

interface ProbeFlags {
  readonly ca?: string
  readonly cert?: string
  readonly key?: string
  readonly json?: boolean
}

/** `nbdgate probe`: negotiates as a client and prints what is there. */
export function probeCommand(): Command {
  return new Command('probe')
    .description('negotiate with an NBD server as a client would, and print what is there')
    .argument('<uri>', 'nbd://host:port/export, nbds://…, nbd+unix:///export?socket=PATH, nbds+unix://…')
    .option('--ca <file>', 'authority that the server’s certificate has to come from')
    .option('--cert <file>', 'own certificate')
    .option('--key <file>', 'its key')
    .option('--json', 'print JSON')
    .action(async (text: string, flags: ProbeFlags) => {
      const uri = parseUpstreamUri(text)
      if (!uri.ok) throw new UsageError(uri.problem)
      const path = (file: string | undefined): string | undefined => (file === undefined ? undefined : resolve(file))
      const upstream = { ...uri.value, ca: path(flags.ca), cert: path(flags.cert), key: path(flags.key) }
      const found = { uri: text, exports: await list(upstream), export: await open(upstream) }
      // Without a name the default export is asked for, and many a server has none.
      if (typeof found.export === 'string' && uri.value.export !== '') process.exitCode = 1
      process.stdout.write(flags.json === true ? `${JSON.stringify(found, null, 2)}\n` : describe(found))
    })
}

/** Facts of one export, as JSON prints them. */
interface ProbedExport {
  readonly name: string
  readonly sizeBytes: string
  readonly flags: string
  readonly blockSize: { readonly minimum: number; readonly preferred: number; readonly maximumPayload: number }
  readonly structuredReplies: boolean
}

async function list(upstream: UpstreamConfig): Promise<readonly ListEntry[] | string> {
  return probe(upstream, async ({ fixed, wire }) => (fixed ? listExports(wire) : 'this server knows no LIST'))
}

async function open(upstream: UpstreamConfig): Promise<ProbedExport | string> {
  const name = upstream.kind === 'file' ? '' : upstream.export
  return probe(upstream, async connected => {
    const { sizeBytes, flags, blockSize, structuredReplies } = await enter(connected, name, { structuredReplies: true })
    const { minimum, preferred, maximumPayload } = blockSize
    return {
      name,
      sizeBytes: String(sizeBytes),
      flags: flagNames(TransmissionFlag, flags),
      blockSize: { minimum, preferred, maximumPayload },
      structuredReplies,
    }
  })
}

/** Runs one negotiation on a connection of its own; a server's no is an answer, all else is thrown. */
async function probe<Answer>(
  upstream: UpstreamConfig,
  ask: (connected: Awaited<ReturnType<typeof greet>>) => Promise<Answer>,
): Promise<Answer | string> {
  const link = await connectUpstream(upstream, { readOnly: true }, AbortSignal.timeout(PROBE_MS))
  if (link.kind === 'file') throw new UsageError('a file is not negotiated with')
  let { stream } = link
  const { secure, acknowledge } = link
  const upgrade = async (): Promise<Wire> => {
    stream = await (secure?.() ?? Promise.resolve(stream))
    return new Wire(stream, PROBE_MS, acknowledge)
  }
  try {
    return await ask(await greet(new Wire(stream, PROBE_MS, acknowledge), secure === undefined ? undefined : upgrade))
  } catch (error) {
    if (error instanceof OptionRefused) return error.message
    throw error
  } finally {
    stream.destroy()
  }
}

function describe(found: {
  uri: string
  exports: readonly ListEntry[] | string
  export: ProbedExport | string
}): string {
  const lines = [found.uri]
  if (typeof found.exports === 'string') lines.push(`  list: ${found.exports}`)
  else for (const { name } of found.exports) lines.push(`  export ${JSON.stringify(printable(name))}`)
  if (typeof found.export === 'string') lines.push(`  go: ${found.export}`)
  else {
    const { name, sizeBytes, flags, blockSize, structuredReplies } = found.export
    lines.push(`  opened ${JSON.stringify(printable(name))}`, `    size: ${sizeBytes} bytes`, `    flags: ${flags}`)
    const { minimum, preferred, maximumPayload } = blockSize
    lines.push(`    block size: minimum ${minimum}, preferred ${preferred}, maximum payload ${maximumPayload}`)
    lines.push(`    structured replies: ${structuredReplies ? 'yes' : 'no'}`)
  }
  return `${lines.join('\n')}\n`
}
