import { isIP } from 'node:net'
import { printable } from '../protocol/strings.ts'
import { type Parsed, parsed, unparsed } from './parsed.ts'

/** An IP address as a number. A v4-mapped v6 address (RFC 4291, 2.5.5.2) is the v4 address that it maps. */
export interface IpAddress {
  readonly family: 4 | 6
  readonly value: bigint
}

/** A network, or a single address (prefix 32 or 128). Bits behind the prefix are zero. */
export interface Cidr {
  readonly family: 4 | 6
  readonly network: bigint
  readonly prefix: number
  /** Canonical: `10.0.0.0/8`, `2001:db8::/32`. */
  readonly text: string
}

const MAPPED = 0xffffn << 32n
const MAPPED_PREFIX = 96

/** Reads an address in any of its usual forms; a zone (`fe80::1%eth0`) is dropped. Undefined when it is not one. */
export function parseAddress(text: string): IpAddress | undefined {
  const plain = text.includes(':') ? text.replace(/%.*$/s, '') : text
  switch (isIP(plain)) {
    case 4:
      return { family: 4, value: v4Value(plain) }
    case 6: {
      const value = v6Value(plain)
      return value >> 32n === MAPPED >> 32n ? { family: 4, value: value & 0xffffffffn } : { family: 6, value }
    }
    default:
      return undefined
  }
}

/** The canonical text of an address: `10.0.0.7`, `2001:db8::1` (RFC 5952). */
export function formatAddress({ family, value }: IpAddress): string {
  if (family === 4) return [24n, 16n, 8n, 0n].map(shift => (value >> shift) & 0xffn).join('.')
  const groups = Array.from({ length: 8 }, (_, i) => ((value >> BigInt(112 - 16 * i)) & 0xffffn).toString(16))
  // The WHATWG parser writes IPv6 hosts in the canonical form, which is not worth a second implementation.
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1)
}

/** Reads `10.0.0.0/8`, `2001:db8::/32`, or one address. Bits set behind the prefix are a problem, not a rounding. */
export function parseCidr(text: string): Parsed<Cidr> {
  const shown = JSON.stringify(printable(text))
  const slash = text.indexOf('/')
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash))
  if (address === undefined) return unparsed(`${shown} is not an IP address or network`)
  const bits = address.family === 4 ? 32 : 128
  let prefix = bits
  if (slash >= 0) {
    const digits = text.slice(slash + 1)
    const isMapped = address.family === 4 && text.includes(':')
    prefix = /^(0|[1-9]\d{0,2})$/.test(digits) ? Number(digits) - (isMapped ? MAPPED_PREFIX : 0) : -1
    if (prefix < 0 || prefix > bits) {
      const least = isMapped ? MAPPED_PREFIX : 0
      return unparsed(`${shown} needs a prefix from ${least} to ${least + bits} behind the slash`)
    }
  }
  const hostBits = BigInt(bits - prefix)
  const network = (address.value >> hostBits) << hostBits
  const canonical = `${formatAddress({ family: address.family, value: network })}/${prefix}`
  if (network !== address.value) return unparsed(`${shown} has bits set behind its prefix; did you mean ${canonical}?`)
  return parsed({ family: address.family, network, prefix, text: canonical })
}

function v4Value(text: string): bigint {
  return text.split('.').reduce((value, octet) => (value << 8n) | BigInt(octet), 0n)
}

function v6Value(text: string): bigint {
  const dotted = text.slice(text.lastIndexOf(':') + 1)
  const tail = dotted.includes('.') ? v4Value(dotted) : undefined
  const plain =
    tail === undefined
      ? text
      : `${text.slice(0, -dotted.length)}${(tail >> 16n).toString(16)}:${(tail & 0xffffn).toString(16)}`
  const [head = '', rest] = plain.split('::')
  const left = head === '' ? [] : head.split(':')
  const right = rest === undefined || rest === '' ? [] : rest.split(':')
  const zeros = Array.from({ length: 8 - left.length - right.length }, () => '0')
  return [...left, ...zeros, ...right].reduce((value, group) => (value << 16n) | BigInt(`0x${group}`), 0n)
}
