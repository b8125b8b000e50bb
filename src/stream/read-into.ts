import type { Socket } from 'node:net'

/** Node's names for what the option `onread` of a socket sets. */
const NAMES = ['kBuffer', 'kBufferCb', 'kBufferGen']

type Handle = { readonly useUserBuffer?: (buffer: Uint8Array) => void } | null | undefined

/**
 * Makes a connected socket read into memory of ours from now on, as the option `onread` of net.connect does for sockets that
 * are made with it (https://nodejs.org/api/net.html#new-netsocketoptions). Accepted sockets and TLS have no such option: Node
 * makes memory for each of their reads, and from Node 24 on lets streams share it, so that nobody can free it early.
 * `arrived` gets how many bytes stand in the buffer that `next` gave last, and says whether to go on. What Node has read
 * before comes as 'data', first. Whether it worked: these names are Node's own, and what is not as we know it stays alone.
 */
export function readInto(socket: Socket, next: () => Uint8Array, arrived: (length: number) => boolean): boolean {
  const { _handle: handle } = socket as Socket & { readonly _handle?: Handle }
  const symbols = Object.getOwnPropertySymbols(socket)
  const [buffer, callback, generator] = NAMES.map(name => symbols.find(({ description }) => description === name))
  if (buffer === undefined || callback === undefined || generator === undefined) return false
  if (typeof handle?.useUserBuffer !== 'function' || Reflect.get(socket, buffer) !== null) return false
  const first = next()
  Reflect.set(socket, buffer, first)
  Reflect.set(socket, callback, arrived)
  Reflect.set(socket, generator, next)
  handle.useUserBuffer(first)
  return true
}
