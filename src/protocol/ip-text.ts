/** Addresses as text and as bytes in network order: 4 of IPv4, 16 of IPv6. */

const OCTET = '(?:25[0-5]|2[0-4]\\d|1\\d\\d|[1-9]?\\d)'
const V4 = new RegExp(`^${OCTET}(?:\\.${OCTET}){3}$`)

/** The bytes of an address; undefined when the text is none, has a zone, or leading zeros that could mean octal. */
export function addressBytes(text: string): Buffer | undefined {
  if (V4.test(text)) return Buffer.from(text.split('.').map(Number))
  // Only what can be in an address: the parser of URLs knows other things in brackets.
  const url = `http://[${text}]`
  if (!/^[\da-f:.]+$/i.test(text) || !URL.canParse(url)) return undefined
  const [head = '', tail = ''] = new URL(url).hostname.slice(1, -1).split('::')
  const [left, right] = [groupsOf(head), groupsOf(tail)]
  const bytes = Buffer.alloc(16)
  for (const [index, group] of left.entries()) bytes.writeUInt16BE(group, 2 * index)
  for (const [index, group] of right.entries()) bytes.writeUInt16BE(group, 2 * (8 - right.length + index))
  return bytes
}

/** The text of 4 or 16 bytes, IPv6 as RFC 5952 has it. */
export function addressText(bytes: Buffer): string {
  if (bytes.length === 4) return bytes.join('.')
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(2 * index).toString(16))
  return new URL(`http://[${groups.join(':')}]`).hostname.slice(1, -1)
}

function groupsOf(text: string): readonly number[] {
  return text === '' ? [] : text.split(':').map(group => Number.parseInt(group, 16))
}
