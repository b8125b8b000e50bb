/** A host key of SSH in OpenSSH's own file format (PROTOCOL.key), without a passphrase: a gateway starts unattended. */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { encodeString } from '../protocol/ssh-string.ts'

const TYPE = 'ssh-ed25519'
const MAGIC = 'openssh-key-v1\0'
const BLOCK_BYTES = 8
const LINE_CHARACTERS = 70

/** The two files of a key: `ssh_host_ed25519_key`, and the line of its `.pub`. */
export interface HostKeyTexts {
  readonly privateText: string
  readonly publicText: string
}

/** Makes an Ed25519 key. */
export function mintHostKey(comment: string): HostKeyTexts {
  const { privateKey } = generateKeyPairSync('ed25519')
  const { x = '', d = '' } = privateKey.export({ format: 'jwk' })
  const point = Buffer.from(x, 'base64url')
  const publicBlob = Buffer.concat([encodeString(TYPE), encodeString(point)])
  const check = randomBytes(4)
  const secret = Buffer.concat([Buffer.from(d, 'base64url'), point])
  const fields = [check, check, encodeString(TYPE), encodeString(point), encodeString(secret), encodeString(comment)]
  const length = fields.reduce((sum, { length }) => sum + length, 0)
  const padding = Buffer.from(
    Array.from({ length: (BLOCK_BYTES - (length % BLOCK_BYTES)) % BLOCK_BYTES }, (_, i) => i + 1),
  )
  const [none, noOptions, one] = [encodeString('none'), encodeString(''), Buffer.from([0, 0, 0, 1])]
  const body = Buffer.concat([
    Buffer.from(MAGIC),
    none,
    none,
    noOptions,
    one,
    encodeString(publicBlob),
    encodeString(Buffer.concat([...fields, padding])),
  ])
  const lines = body.toString('base64').match(new RegExp(`.{1,${LINE_CHARACTERS}}`, 'g')) ?? []
  return {
    privateText: ['-----BEGIN OPENSSH PRIVATE KEY-----', ...lines, '-----END OPENSSH PRIVATE KEY-----', ''].join('\n'),
    publicText: `${TYPE} ${publicBlob.toString('base64')} ${comment}\n`,
  }
}
