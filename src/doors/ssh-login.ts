/** The login of one SSH connection: public keys and certificates, nothing else; a few attempts, and a time limit. */
import type { AuthContext, Connection, PublicKeyAuthContext } from 'ssh2'
import { rightsClock } from '../platform/rights-clock.ts'
import { type Admission, admit, type Offer } from '../policy/ssh-admission.ts'
import { isCertificateAlgorithm } from '../ssh/certificate.ts'
import type { SshFacts } from '../ssh/facts.ts'
import type { Keys } from '../ssh/key-ring.ts'
import { verifyBareSignature, verifySignature } from '../ssh/public-key.ts'

/** Keys and signatures that may be refused before the connection is (OpenSSH's MaxAuthTries). */
const MAX_ATTEMPTS = 6

/** Longest user name that is looked at. */
const MAX_USER_LENGTH = 255

type Admitted = Extract<Admission, { kind: 'admitted' }>

export interface LoginOptions {
  /** Who may log in, as of now. */
  keys(): Keys
  readonly address: string
  /** Too many attempts: ends the connection. */
  readonly giveUp: () => void
}

export class SshLogin {
  readonly #options: LoginOptions
  #attempts = 0
  #refusal = 'nothing was tried'
  #user = ''
  #offer: Offer | undefined
  #facts: SshFacts | undefined

  constructor(client: Connection, options: LoginOptions) {
    this.#options = options
    client.on('authentication', this.#authenticate)
  }

  /** Who has logged in; undefined: nobody yet. */
  get facts(): SshFacts | undefined {
    return this.#facts
  }

  /** Why nobody has, for the log. */
  get refusal(): { readonly user: string; readonly reason: string; readonly attempts: number } {
    return { user: this.#user, reason: this.#refusal, attempts: this.#attempts }
  }

  /** What the login allows now: a key may have expired or been taken away since. */
  standing(): Admission {
    const offer = this.#offer
    if (offer === undefined) return { kind: 'refused', reason: 'not logged in' }
    return admit(offer, this.#options.keys(), rightsClock.now())
  }

  readonly #authenticate = (context: AuthContext): void => {
    this.#user = context.username.slice(0, MAX_USER_LENGTH)
    if (context.method !== 'publickey') {
      // Every client begins with `none`, to hear which methods there are.
      if (context.method !== 'none') this.#refuse(context, `the method ${context.method}`)
      else context.reject(['publickey'])
      return
    }
    const offer = this.#offerOf(context)
    const admission = this.#judge(context, offer)
    if (admission.kind === 'refused') this.#refuse(context, admission.reason)
    else if (context.signature === undefined) context.accept()
    else if (!isSigned(context, admission)) this.#refuse(context, 'a wrong signature')
    else {
      this.#offer = offer
      this.#facts = admission.facts
      context.accept()
    }
  }

  #offerOf({ username, key }: PublicKeyAuthContext): Offer {
    return { user: username, algorithm: key.algo, blob: key.data, address: this.#options.address }
  }

  #judge({ username, key, hashAlgo }: PublicKeyAuthContext, offer: Offer): Admission {
    if (username.length > MAX_USER_LENGTH) return { kind: 'refused', reason: 'a name that is too long' }
    // RFC 8332: the old algorithm name of an RSA key stands for SHA-1.
    if (key.algo === 'ssh-rsa' && hashAlgo === undefined) return { kind: 'refused', reason: 'a signature with SHA-1' }
    return admit(offer, this.#options.keys(), rightsClock.now())
  }

  #refuse(context: AuthContext, reason: string): void {
    this.#refusal = reason
    this.#attempts++
    if (this.#attempts < MAX_ATTEMPTS) {
      context.reject(['publickey'])
      return
    }
    this.#refusal = `too many attempts, the last one ${reason}`
    this.#options.giveUp()
  }
}

/** Whether the visitor has the private key. ssh2 leaves the signature of a certificate as it is, and undresses others. */
function isSigned({ key, blob, signature, hashAlgo }: PublicKeyAuthContext, admission: Admitted): boolean {
  if (blob === undefined || signature === undefined) return false
  return isCertificateAlgorithm(key.algo)
    ? verifySignature(admission.key, blob, signature)
    : verifyBareSignature(admission.key, hashAlgo, blob, signature)
}
