/** Where an element of DER (X.690) lies: `start` is its tag, `body` to `end` its content. */
export interface Element {
  readonly tag: number
  readonly start: number
  readonly body: number
  readonly end: number
}

export const Tag = {
  INTEGER: 0x02,
  BIT_STRING: 0x03,
  OID: 0x06,
  SEQUENCE: 0x30,
  UTC_TIME: 0x17,
  GENERALIZED_TIME: 0x18,
} as const

/** The element at `at`. @throws RangeError if it does not fit into `end`, or has a form that certificates do not use */
export function elementAt(der: Buffer, at: number, end: number): Element {
  const tag = at < end ? der.readUInt8(at) : undefined
  const first = at + 1 < end ? der.readUInt8(at + 1) : undefined
  if (tag === undefined || first === undefined || (tag & 0x1f) === 0x1f) throw new RangeError('DER: no element')
  const lengthBytes = first < 0x80 ? 0 : first & 0x7f
  const body = at + 2 + lengthBytes
  if (first === 0x80 || lengthBytes > 4 || body > end) throw new RangeError('DER: a length out of bounds')
  const length = lengthBytes === 0 ? first : der.readUIntBE(at + 2, lengthBytes)
  if (body + length > end) throw new RangeError('DER: an element that is longer than what holds it')
  return { tag, start: at, body, end: body + length }
}

/** The elements that `parent` is made of. @throws RangeError */
export function elementsOf(der: Buffer, parent: Element): readonly Element[] {
  const elements: Element[] = []
  for (let at = parent.body; at < parent.end; at = elements.at(-1)?.end ?? parent.end) {
    elements.push(elementAt(der, at, parent.end))
  }
  return elements
}

/** An element's content. */
export function contentOf(der: Buffer, element: Element): Buffer {
  return der.subarray(element.body, element.end)
}
