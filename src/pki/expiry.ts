import { readCrl, splitCrls } from './crl.ts'
import { loadCertificates } from './material.ts'
import { readText } from './read-text.ts'

/**
 * When a PEM file with certificates ends: the first of them that is still good; the last of all where none is. A chain or
 * a bundle is good for something until then. @throws MaterialError
 */
export function certificatesEndMs(file: string, nowMs: number): number {
  return firstToEnd(
    loadCertificates(file).map(({ validTo }) => Date.parse(validTo)),
    nowMs,
  )
}

/** When a file of revocation lists has to be renewed; Infinity if never. @throws MaterialError, RangeError */
export function crlsEndMs(file: string, nowMs: number): number {
  return firstToEnd(
    splitCrls(readText(file)).map(text => readCrl(text).nextUpdateMs ?? Infinity),
    nowMs,
  )
}

function firstToEnd(ends: readonly number[], nowMs: number): number {
  const good = ends.filter(each => each > nowMs)
  return good.length > 0 ? Math.min(...good) : Math.max(...ends)
}
