import { type Cidr, formatAddress, type IpAddress, parseAddress } from '../config/cidr.ts'

/** A test for the text of a peer's address. No address, or what is none, lies in no network. */
export type CidrMatcher = (address: string | undefined) => boolean

/** A test whether one of the networks holds an address; no networks hold none. */
export function compileCidrs(networks: readonly Cidr[]): CidrMatcher {
  return text => {
    const address = text === undefined ? undefined : parseAddress(text)
    return address !== undefined && networks.some(network => isInCidr(network, address))
  }
}

/** Whether the address lies in the network. Families never match each other; a v4-mapped v6 address is v4. */
export function isInCidr(cidr: Cidr, address: IpAddress): boolean {
  if (cidr.family !== address.family) return false
  const hostBits = BigInt((cidr.family === 4 ? 32 : 128) - cidr.prefix)
  return address.value >> hostBits === cidr.network >> hostBits
}

/**
 * The one spelling of a peer's address, for logs and for counting: `::ffff:10.0.0.7` is `10.0.0.7`, a zone is dropped.
 * Undefined when the text is no address.
 */
export function plainAddress(text: string): string | undefined {
  const address = parseAddress(text)
  return address === undefined ? undefined : formatAddress(address)
}
