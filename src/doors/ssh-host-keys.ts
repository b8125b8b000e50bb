import { readFileSync, statSync } from 'node:fs'
import { MaterialError } from '../pki/errors.ts'
import { SIGNATURE_ALGORITHMS } from '../ssh/public-key.ts'
import { loadSsh2 } from './ssh2.ts'

/** Host keys as ssh2 takes them, and what an operator should know although they work. */
export interface HostKeys {
  readonly keys: readonly Buffer[]
  readonly warnings: readonly string[]
}

/** Loads the host keys of an SSH door. @throws MaterialError for the first that can not be used */
export function loadHostKeys(files: readonly string[]): HostKeys {
  const warnings = files.flatMap(file => (isOpenToOthers(file) ? [`${file}: others than its owner can read it`] : []))
  return { keys: files.map(loadHostKey), warnings }
}

function loadHostKey(file: string): Buffer {
  const text = read(file)
  const keys = loadSsh2().utils.parseKey(text)
  // Its messages are clauses of ssh2's; what is wrong is told by the only difference that an operator can do something about.
  if (keys instanceof Error) {
    if (/encrypted|passphrase/i.test(keys.message)) {
      throw new MaterialError('KEY_ENCRYPTED', file, 'the host key is protected by a passphrase')
    }
    throw new MaterialError('NOT_PEM', file, 'this is no private key that OpenSSH or OpenSSL has written', {
      cause: keys,
    })
  }
  const [key] = Array.isArray(keys) ? keys : [keys]
  if (key?.isPrivateKey() !== true) throw new MaterialError('NOT_PEM', file, 'this is a public key, not a host key')
  const isTaken = key.type === 'ssh-rsa' || SIGNATURE_ALGORITHMS.includes(key.type)
  if (!isTaken) throw new MaterialError('NOT_PEM', file, `host keys of type ${key.type} are not used`)
  return text
}

function read(file: string): Buffer {
  try {
    return readFileSync(file)
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined
    const hint =
      code === 'ENOENT' ? 'there is no host key: `nbdgate certs init` makes one' : 'the host key can not be read'
    throw new MaterialError('UNREADABLE', file, hint, { cause: error })
  }
}

function isOpenToOthers(file: string): boolean {
  const stats = statSync(file, { throwIfNoEntry: false })
  return stats !== undefined && (stats.mode & 0o077) !== 0
}
