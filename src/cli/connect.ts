/**
 * `nbdgate connect`: the client's end. A gateway of one door and one export, made in memory: a plain socket here for
 * clients that speak no TLS, an encrypted upstream there. Not a second relay.
 */
import { Command } from 'commander'
import type { Config, DoorConfig, ExportConfig } from '../config/config.ts'
import { startGateway } from '../gateway/gateway.ts'
import { nearEnd } from './connect-listen.ts'
import { connectLog } from './connect-log.ts'
import { type Progress, showProgress, type Traffic, trafficOf } from './connect-progress.ts'
import { type FarEndFlags, farEnd } from './connect-upstream.ts'

/** How long sessions have to end by themselves after the first signal. */
const MIB = 1024 * 1024

const DRAIN_MS = 5000

/** As an export has it that says nothing else. */
const OUTAGE = { reconnectMs: 60_000, replayBytes: 0 }

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

interface ConnectFlags extends FarEndFlags {
  readonly listen: string
  readonly once?: boolean
  readonly readOnly?: boolean
  readonly verbose?: boolean
  readonly insecureListenAnywhere?: boolean
}

/** `nbdgate connect`. Its action throws UsageError, MaterialError or DoorError. */
export function connectCommand(): Command {
  return new Command('connect')
    .description('a local plain NBD socket in front of one behind TLS or SSH, for clients that speak neither')
    .argument(
      '<uri>',
      'nbds://host/export, nbds+unix:///export?socket=PATH or nbd+ssh://user@host/export; never plaintext',
    )
    .requiredOption('--listen <where>', 'unix:PATH (made 0600) or HOST:PORT on loopback')
    .option('--ca <file>', 'authority that the server’s certificate has to come from')
    .option('--cert <file>', 'own certificate')
    .option('--key <file>', 'its key')
    .option('--identity <file>', 'private key for nbd+ssh:// (default: the agent)')
    .option('--known-hosts <file>', 'keys of SSH hosts (default: ~/.ssh/known_hosts)')
    .option('--export <name>', 'export to ask for, where the URI names none')
    .option(
      '--connections <n>',
      'spread each session over so many connections to the server (1 to 16), for long round trips',
    )
    .option('--read-only', 'let nobody write, whatever the server grants')
    .option('--once', 'end when the first client has ended its sessions')
    .option('--verbose', 'say what happens also where standard error is no terminal')
    .option('--insecure-listen-anywhere', 'listen on any address: whoever reaches it uses the export')
    .action(connect)
}

async function connect(uri: string, flags: ConnectFlags): Promise<void> {
  const door = nearEnd(flags.listen, { anywhere: flags.insecureListenAnywhere === true })
  const config = connectConfig(door, farEnd(uri, flags), flags.readOnly === true ? 'read' : 'write')
  let lastEnded = (): void => {}
  let progress: Progress | undefined
  const write = (text: string): void => void process.stderr.write(text)
  const log = connectLog({
    verbose: flags.verbose === true || process.stderr.isTTY === true,
    write: line => (progress === undefined ? write(line) : progress.above(line)),
    lastEnded: () => lastEnded(),
  })
  const gateway = await startGateway(config, log)
  let traffic = trafficOf([])
  const look = (): Traffic => {
    void gateway.sessions().then(sessions => {
      traffic = trafficOf(sessions)
    })
    return traffic
  }
  if (process.stderr.isTTY === true) progress = showProgress(look, write, () => process.stderr.columns)
  await new Promise<void>((resolve, reject) => {
    let ending = false
    const end = (): void => {
      const ended = ending ? gateway.stop() : gateway.drain()
      ending = true
      ended.finally(() => progress?.stop()).then(resolve, reject)
    }
    if (flags.once === true) lastEnded = end
    for (const signal of SIGNALS) process.on(signal, end)
  })
}

/** The configuration that stands for a command line. Whoever the door lets in may use the export. */
export function connectConfig(
  door: DoorConfig,
  upstream: ReturnType<typeof farEnd>,
  rights: ExportConfig['allow'][number]['rights'],
): Config {
  const source = 'the command line'
  const allow = [{ who: ['anyone'], rights, source }]
  // Many a client asks for the default export, or has no way to name one.
  const names = new Set(['', upstream.export])
  // What may be shared is decided at the far end.
  const sharing = { mode: 'cluster', whenBusy: { kind: 'refuse' }, holder: 'identity' } as const
  return {
    file: '',
    log: { level: 'info' },
    workers: 1,
    doors: [door],
    exports: [...names].map(name => ({ name, upstream, allow, deny: [], limits: {}, sharing, outage: OUTAGE, source })),
    groups: [],
    limits: {
      sessions: 1000,
      sessionsPerAddress: 1000,
      negotiationMs: 10_000,
      idleMs: 0,
      drainMs: DRAIN_MS,
      inFlightBytes: 64 * MIB,
      totalInFlightBytes: 512 * MIB,
    },
    leases: { vanishedMs: 30_000 },
  }
}
