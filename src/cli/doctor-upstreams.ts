/**
 * What `nbdgate doctor` says of upstreams: whether they answer, what kind of server they seem to be, and what of that
 * kind's known behaviour an operator should know. Asks as a client would, read-only, and writes nothing.
 */

import type { BackendConfig, Config, ExportConfig, UpstreamConfig } from '../config/config.ts'
import { enter, greet, OptionRefused, type UpstreamExport } from '../negotiation/client.ts'
import { TransmissionFlag } from '../protocol/constants.ts'
import { printable } from '../protocol/strings.ts'
import { Wire } from '../stream/wire.ts'
import { connectUpstream } from '../upstreams/connect.ts'
import { type Finding, fine, problem, warning } from './doctor-finding.ts'
import { programProblem } from './doctor-programs.ts'

const ASK_MS = 5000
/** No server has it, so that the refusal tells which server it is. */
const NO_SUCH_EXPORT = 'nbdgate-doctor-asks-who-you-are'

type Server = 'nbd-server' | 'nbdkit' | 'qemu-nbd' | 'nbdgate' | 'an unknown server'

/** Each export's upstream, asked one after the other: small servers take one client at a time. */
export async function upstreamFindings(config: Config): Promise<readonly Finding[]> {
  const findings: Finding[] = []
  for (const each of config.exports) findings.push(...(await exportFindings(each)))
  return findings
}

async function exportFindings(each: ExportConfig): Promise<readonly Finding[]> {
  const { upstream } = each
  const check = `upstream of ${JSON.stringify(printable(each.name))}`
  if (upstream.kind === 'ways') {
    const findings: Finding[] = []
    for (const way of upstream.ways) findings.push(...(await exportFindings({ ...each, upstream: way })))
    return findings
  }
  try {
    if (upstream.kind === 'spawn') return [spawnFinding(check, upstream.argv[0] ?? '')]
    if (upstream.kind === 'overlay') return [fine(check, 'a file that `prepare` makes')]
    if (upstream.kind === 'file') {
      const link = await connectUpstream(upstream, { readOnly: true }, AbortSignal.timeout(ASK_MS))
      link.stream.destroy()
      return [fine(check, `${upstream.path}: can be read`)]
    }
    const answer = await ask(upstream, upstream.export)
    const server = serverOf(await ask(upstream, NO_SUCH_EXPORT).catch(() => undefined))
    if (typeof answer === 'string') return [refusal(check, server, answer)]
    return [fine(check, `${server}, ${answer.sizeBytes} bytes`), ...quirks({ check, server, each, answer })]
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error)
    return [problem(check, why, 'is the server running there? nbdgate probe URI asks it alone')]
  }
}

function spawnFinding(check: string, program: string): Finding {
  const why = programProblem(program)
  if (why === undefined) return fine(check, `${program}: is there, and is started when it is needed`)
  return problem(check, `${program}: ${why}`, 'install it, or name it with its folder')
}

/** What GO gives; a text is a refusal. */
async function ask(
  upstream: Exclude<UpstreamConfig, { kind: 'file' }>,
  name: string,
): Promise<UpstreamExport | string> {
  const link = await connectUpstream(upstream, { readOnly: true }, AbortSignal.timeout(ASK_MS))
  let { stream } = link
  const { secure = undefined, acknowledge = undefined } = link.kind === 'server' ? link : {}
  const upgrade = async (): Promise<Wire> => {
    stream = await (secure?.() ?? Promise.resolve(stream))
    return new Wire(stream, ASK_MS, acknowledge)
  }
  try {
    const connected = await greet(new Wire(stream, ASK_MS, acknowledge), secure === undefined ? undefined : upgrade)
    return await enter(connected, name, { structuredReplies: true })
  } catch (error) {
    if (error instanceof OptionRefused) return error.message
    throw error
  } finally {
    stream.destroy()
  }
}

/** By the answer to a name that nobody has: nbdkit takes it, the others say no in words of their own. */
export function serverOf(answer: UpstreamExport | string | undefined): Server {
  if (answer === undefined) return 'an unknown server'
  if (typeof answer !== 'string') return 'nbdkit'
  if (answer.includes('not present')) return 'qemu-nbd'
  if (answer.includes('Export unknown')) return 'nbd-server'
  return answer.includes('no such export') ? 'nbdgate' : 'an unknown server'
}

function refusal(check: string, server: Server, answer: string): Finding {
  if (answer.includes('ERR_POLICY')) {
    const todo =
      'of nbd-server: its `authfile` and `maxconnections` (which counts all connections since its start) say no'
    return problem(check, `${server}: ${answer}`, `${todo}; take both out, and restart it`)
  }
  return problem(check, `${server}: ${answer}`, 'the path of the URI is the name of an export there: nbdgate probe URI')
}

interface Known {
  readonly check: string
  readonly server: Server
  readonly each: ExportConfig
  readonly answer: UpstreamExport
}

function quirks({ check, server, each, answer }: Known): readonly Finding[] {
  const has = (flag: number): boolean => (answer.flags & flag) !== 0
  const writes = each.allow.some(({ rights }) => rights === 'write')
  const readOnly = has(TransmissionFlag.READ_ONLY)
  const clear = clearHost(each.upstream)
  const flushHint =
    server === 'nbd-server' ? '`flush = true` and `fua = true` in its section' : 'let the server offer FLUSH'
  return [
    ...(writes && readOnly
      ? [warning(check, 'rules grant write, and the server is read-only', 'change one of the two')]
      : []),
    ...(writes && !readOnly && !has(TransmissionFlag.SEND_FLUSH)
      ? [warning(check, `${server} offers no FLUSH: nothing makes written data durable`, flushHint)]
      : []),
    ...(clear === undefined
      ? []
      : [
          warning(
            check,
            `plaintext from here to ${clear}`,
            'nbds:// or nbd+ssh://, or a Unix socket, or a network of trust',
          ),
        ]),
    ...(server === 'nbd-server' && !answer.structuredReplies
      ? [fine(check, 'known of nbd-server: no structured replies (made here), INFO tells no size (asked for here)')]
      : []),
    ...(server === 'qemu-nbd' && !has(TransmissionFlag.CAN_MULTI_CONN)
      ? [
          fine(
            check,
            'known of qemu-nbd: one connection at once unless told --shared; ends after it unless --persistent',
          ),
        ]
      : []),
  ]
}

/** The host that is reached without encryption, if it is not this one. */
function clearHost(upstream: BackendConfig): string | undefined {
  if (upstream.kind !== 'tcp' || upstream.tls) return undefined
  return /^(127\.|::1$|localhost$)/.test(upstream.host) ? undefined : upstream.host
}
