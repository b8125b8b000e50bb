/** Debian's sshd on a port of its own, with keys of its own, for tests of the way out. */
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { runOk, type Started, start } from './process.ts'
import { freePort, isConnectable } from './wait.ts'

/** An sshd that runs; keys are named by their files in the test's folder. */
export interface Sshd {
  readonly port: number
  /** A private key that may log in. */
  readonly identity: string
  /** Makes a key of a kind; its path. */
  key(name: string, ...args: readonly string[]): Promise<string>
  /** The line of a key's public half. */
  publicKey(name: string): string
  /** Writes a known_hosts whose lines name this sshd by `{host}`; its path. */
  knownHosts(name: string, lines: readonly string[]): string
  /** known_hosts with one of the keys: `host` is the true one. */
  known(name: string): string
  /** Logins so far, of all its lives. */
  logins(): number
  /** What it said in this life. */
  stderr(): string
  /** Processes of this life, that of the listener first: one or two more for each connection. */
  readonly pid: number
  stop(): Promise<void>
  /** Starts it again, on the same port. */
  restart(): Promise<void>
}

/** Starts sshd with further lines of its configuration; `prepare` makes the keys that they name. */
export async function startSshd(
  dir: string,
  lines: readonly string[] = [],
  prepare: (key: Sshd['key']) => Promise<void> = async () => {},
): Promise<Sshd> {
  // Debian's sshd wants its folder, and root to make it.
  mkdirSync('/run/sshd', { recursive: true })
  const key = async (name: string, ...args: readonly string[]): Promise<string> => {
    const file = join(dir, name)
    const kind = args.includes('-t') ? args : ['-t', 'ed25519', ...args]
    if (!existsSync(file))
      await runOk(['ssh-keygen', '-q', ...(kind.includes('-N') ? [] : ['-N', '']), '-f', file, ...kind])
    return file
  }
  for (const name of ['host', 'user', 'other']) await key(name)
  await prepare(key)
  const port = await freePort()
  const publicKey = (name: string) => readFileSync(join(dir, `${name}.pub`), 'utf8').trim()
  const authorized = join(dir, 'authorized')
  writeFileSync(authorized, `restrict,port-forwarding ${publicKey('user')}\n`)
  chmodSync(authorized, 0o600)
  const config = join(dir, 'sshd_config')
  const all = [
    `ListenAddress 127.0.0.1:${port}`,
    `HostKey ${join(dir, 'host')}`,
    `AuthorizedKeysFile ${authorized}`,
    `PidFile ${join(dir, 'sshd.pid')}`,
    'UsePAM no',
    'StrictModes no',
    'PermitRootLogin prohibit-password',
    'LogLevel VERBOSE',
    ...lines,
  ]
  writeFileSync(config, `${all.join('\n')}\n`)
  const launch = (): Promise<Started> =>
    start(['/usr/sbin/sshd', '-D', '-e', '-f', config], { ready: () => isConnectable({ host: '127.0.0.1', port }) })
  let server = await launch()
  let before = ''
  const knownHosts = (name: string, known: readonly string[]): string => {
    const file = join(dir, name)
    writeFileSync(file, known.map(line => `${line.replace('{host}', `[127.0.0.1]:${port}`)}\n`).join(''))
    return file
  }
  return {
    port,
    identity: join(dir, 'user'),
    key,
    publicKey,
    knownHosts,
    known: name => knownHosts(`known-${name}`, [`{host} ${publicKey(name)}`]),
    logins: () => `${before}${server.stderr()}`.split('Accepted publickey').length - 1,
    stderr: () => server.stderr(),
    get pid() {
      return server.pid
    },
    stop: () => server.stop().then(() => {}),
    restart: async () => {
      await server.stop()
      before += server.stderr()
      server = await launch()
    },
  }
}
