import { type Cidr, formatAddress, type IpAddress, parseAddress } from '../config/cidr.ts'
import type { ClueKey, Test } from './clue.ts'

/** A test for the text of a peer's address. No address, or what is none, lies in no network. */
export type CidrMatcher = (address: string | undefined) => boolean

/** A test whether one of the networks holds an address; no networks hold none. */
export function compileCidrs(networks: readonly Cidr[]): CidrMatcher {
  const ranges = networks.map(rangeOf)
  return text => {
    const address = text === undefined ? undefined : addressOf(text)
    if (address === undefined) return false
    for (const range of ranges) if (isIn(range, address)) return true
    return false
  }
}

/** The condition to lie in a network. */
export function networkTest(network: Cidr): Test<string> {
  const { family, prefix } = network
  const keyOf = (value: bigint): ClueKey =>
    family === 4 ? Number(value >> BigInt(32 - prefix)) : value >> BigInt(128 - prefix)
  const keysOf = (text: string): readonly ClueKey[] => {
    const address = addressOf(text)
    return address?.family === family ? [keyOf(address.value)] : []
  }
  const clue = { id: `in ${family}/${prefix}`, key: keyOf(network.network), keysOf }
  return { holds: compileCidrs([network]), clue }
}

interface Range {
  readonly family: Cidr['family']
  readonly first: bigint
  readonly last: bigint
}

/** Families never match each other; a v4-mapped v6 address is v4. */
function isIn({ family, first, last }: Range, address: IpAddress): boolean {
  return family === address.family && address.value >= first && address.value <= last
}

function rangeOf({ family, network, prefix }: Cidr): Range {
  const hostBits = BigInt((family === 4 ? 32 : 128) - prefix)
  const first = (network >> hostBits) << hostBits
  return { family, first, last: first + (1n << hostBits) - 1n }
}

/** One visitor's address is held against many networks, one after the other. */
let lastText: string | undefined
let lastAddress: IpAddress | undefined

function addressOf(text: string): IpAddress | undefined {
  if (text !== lastText) {
    lastAddress = parseAddress(text)
    lastText = text
  }
  return lastAddress
}

/**
 * The one spelling of a peer's address, for logs and for counting: `::ffff:10.0.0.7` is `10.0.0.7`, a zone is dropped.
 * Undefined when the text is no address.
 */
export function plainAddress(text: string): string | undefined {
  const address = parseAddress(text)
  return address === undefined ? undefined : formatAddress(address)
}
