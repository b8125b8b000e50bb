import type { Duplex } from 'node:stream'
import { ProtocolError } from '../protocol/errors.ts'
import type { ProxyHeader } from '../protocol/proxy-facts.ts'
import { decodeProxyHeader } from '../protocol/proxy-header.ts'
import { StreamError } from '../stream/errors.ts'

/**
 * Reads the PROXY header that a paused socket begins with, within `boundMs`, and leaves the socket paused again: what came
 * behind the header is the next thing to be read. Null when the peer goes without a word, as a check of the port does.
 * @throws ProtocolError for what is no header; StreamError CLOSED or TIMEOUT
 */
export function readProxyHeader(socket: Duplex, boundMs: number): Promise<ProxyHeader | null> {
  let bytes: Buffer = Buffer.alloc(0)
  return new Promise((resolve, reject) => {
    const settle = (): void => {
      clearTimeout(timer)
      socket.pause()
      socket.off('data', hear).off('end', ended).off('close', closed)
    }
    const fail = (error: Error): void => {
      settle()
      reject(error)
    }
    const hear = (chunk: Buffer): void => {
      bytes = bytes.length === 0 ? chunk : Buffer.concat([bytes, chunk])
      try {
        const decoded = decodeProxyHeader(bytes)
        if (decoded === undefined) return
        settle()
        if (bytes.length > decoded.sizeBytes) socket.unshift(bytes.subarray(decoded.sizeBytes))
        resolve(decoded.header)
      } catch (error) {
        fail(error instanceof Error ? error : new Error(String(error)))
      }
    }
    const gone = (error: Error): void => {
      if (bytes.length > 0) fail(error)
      else {
        settle()
        resolve(null)
      }
    }
    const ended = (): void => gone(new ProtocolError('TRUNCATED', 'the peer ended in the middle of a PROXY header'))
    const closed = (): void => gone(new StreamError('CLOSED', 'the peer closed the connection'))
    const timer = setTimeout(() => fail(new StreamError('TIMEOUT', 'no PROXY header in time')), boundMs)
    socket.on('data', hear).on('end', ended).on('close', closed)
    socket.resume()
  })
}
