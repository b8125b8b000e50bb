/**
 * Reads the data types of SSH (RFC 4251, 5) out of a blob that somebody else wrote. Past its end, or where a length lies,
 * it throws a RangeError: whoever decodes a blob catches that once.
 */
export class SshReader {
  readonly #bytes: Buffer
  #at = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  /** Whether everything has been read. */
  get atEnd(): boolean {
    return this.#at === this.#bytes.length
  }

  /** Bytes read so far. */
  get offset(): number {
    return this.#at
  }

  uint32(): number {
    const at = this.#take(4)
    return this.#bytes.readUInt32BE(at)
  }

  uint64(): bigint {
    const at = this.#take(8)
    return this.#bytes.readBigUInt64BE(at)
  }

  string(): Buffer {
    const length = this.uint32()
    const at = this.#take(length)
    return this.#bytes.subarray(at, at + length)
  }

  /** A string that has to be UTF-8. */
  text(): string {
    return decodeText(this.string())
  }

  #take(count: number): number {
    const at = this.#at
    if (count > this.#bytes.length - at) throw new RangeError('the blob ends too early')
    this.#at = at + count
    return at
  }
}

function decodeText(bytes: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes)
  } catch (error) {
    throw new RangeError('a text is not UTF-8', { cause: error })
  }
}
