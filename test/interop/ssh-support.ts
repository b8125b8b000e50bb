/** The SSH door in front of real programs: keys of ssh-keygen, the real ssh, and what both need. */
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { seededFile } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { run, runOk, type Started, start } from '../support/process.ts'
import { isListeningAt } from '../support/procfs.ts'
import { config, type Entry } from './configs.ts'

/** A bound for what the other side may do at once or never. */
const ANSWER_MS = 15_000

const QUIET = ['-F', 'none', '-o', 'LogLevel=ERROR', '-o', 'IdentitiesOnly=yes', '-o', 'BatchMode=yes']

/** How `ssh` is called for a door. */
export interface SshCall {
  readonly port: number
  readonly key: string
  readonly user?: string
  readonly options?: readonly string[]
}

/** Files of the SSH door, and the calls that use them. */
export interface SshFiles {
  readonly dir: string
  /** Makes a key; its file. */
  key(name: string, type?: string, bits?: number): Promise<string>
  /** The line of its public half. */
  publicKey(name: string): string
  /** Replaces authorized_keys, at once. */
  authorize(...lines: readonly string[]): void
  readonly authorizedKeys: string
  readonly hostKey: string
  /** The door's entry of a configuration. */
  door(more?: Entry): Entry
  /** Words of a call of ssh. */
  argv(call: SshCall, ...rest: readonly string[]): string[]
}

export const test = base
  .extend('disk', async ({ dir }) => seededFile(join(dir, 'disk.img'), 16))
  .extend('files', async ({ dir }): Promise<SshFiles> => {
    const authorizedKeys = join(dir, 'authorized_keys')
    const keygen = async (name: string, type = 'ed25519', bits?: number): Promise<string> => {
      const size = bits === undefined ? [] : ['-b', String(bits)]
      await runOk(['ssh-keygen', '-q', '-t', type, ...size, '-N', '', '-C', name, '-f', join(dir, name)])
      return join(dir, name)
    }
    const hostKey = await keygen('host')
    const publicKey = (name: string): string => readFileSync(join(dir, `${name}.pub`), 'utf8').trim()
    const authorize = (...lines: readonly string[]): void => {
      writeFileSync(`${authorizedKeys}.new`, `${lines.join('\n')}\n`)
      renameSync(`${authorizedKeys}.new`, authorizedKeys)
    }
    authorize()
    writeFileSync(join(dir, 'known_hosts'), `nbdgate ${publicKey('host')}\n`)
    // The host's key is checked as at a user's: under the name that is written there.
    const trust = ['-o', `UserKnownHostsFile=${join(dir, 'known_hosts')}`, '-o', 'HostKeyAlias=nbdgate']
    const argv = ({ port, key, user = 'bob', options = [] }: SshCall, ...rest: readonly string[]): string[] => [
      'ssh',
      ...[...QUIET, ...trust, '-i', key, '-p', String(port)],
      ...options,
      `${user}@127.0.0.1`,
      ...rest,
    ]
    const door = (more: Entry = {}): Entry => ({
      ssh: '127.0.0.1:0',
      'host-keys': [hostKey],
      'authorized-keys': authorizedKeys,
      ...more,
    })
    return { dir, key: keygen, publicKey, authorize, authorizedKeys, hostKey, door, argv }
  })
  /** Runs `ssh -N` with these forwards until the test ends; `ready` is asked whether it listens. */
  .extend('tunnel', async ({ files }, { onCleanup }) => {
    const started: Started[] = []
    onCleanup(async () => {
      for (const each of started) await each.stop()
    })
    return async (call: SshCall, forwards: Readonly<Record<string, string>>): Promise<Started> => {
      const sockets = Object.keys(forwards)
      const words = Object.entries(forwards).flatMap(([socket, target]) => ['-L', `${socket}:${target}`])
      const options = ['-N', ...words, ...(call.options ?? [])]
      const ssh = await start(files.argv({ ...call, options }), {
        ready: () => sockets.every(isListeningAt),
      })
      started.push(ssh)
      return ssh
    }
  })
  /** Listens on a Unix socket, and runs a command for each connection, as `ProxyCommand`s do. */
  .extend('pipe', async ({ dir }, { onCleanup }) => {
    const started: Started[] = []
    onCleanup(async () => {
      for (const each of started) await each.stop()
    })
    return async (name: string, argv: readonly string[]): Promise<string> => {
      const socket = join(dir, name)
      const script = join(dir, `${name}.sh`)
      writeFileSync(script, `exec ${argv.map(word => `'${word}'`).join(' ')}\n`)
      const words = ['socat', `UNIX-LISTEN:${socket},fork`, `EXEC:sh ${script}`]
      started.push(await start(words, { ready: () => isListeningAt(socket) }))
      return socket
    }
  })

/** Whether an NBD server greets whoever connects there. Rejects when neither a greeting nor an end comes. */
export async function isGreeted(socketPath: string): Promise<boolean> {
  const socket = connect(socketPath)
  return await new Promise((resolve, reject) => {
    let text = ''
    const timer = setTimeout(() => reject(new Error(`no answer on ${socketPath}`)), ANSWER_MS)
    const answer = (yes: boolean): void => {
      clearTimeout(timer)
      socket.destroy()
      resolve(yes)
    }
    socket.on('data', chunk => {
      text += chunk.toString('latin1')
      if (text.length >= 16) answer(text.startsWith('NBDMAGICIHAVEOPT'))
    })
    socket.on('error', () => answer(false))
    socket.on('close', () => answer(false))
  })
}

/** Whether an NBD server greets a program's standard output, which has nothing to say itself. */
export async function greets(argv: readonly string[]): Promise<boolean> {
  return (await run(argv, { input: '' })).stdout.startsWith('NBDMAGICIHAVEOPT')
}

/** A configuration with an SSH door and a disk that everybody who comes in may write. */
export function sshConfig(files: SshFiles, upstream: string, more: Entry = {}): string {
  const allow = [{ who: 'anyone', rights: 'write' }]
  const exports = ['disk', 'other'].map(name => ({ name, upstream, allow }))
  return config([files.door()], exports, more)
}
