// Whether the revocation lists of a door cover its authorities, now and for the next days. OpenSSL refuses every client of
// an authority that is not covered, and says so to nobody but the log: better to know before the door opens.
import type { X509Certificate } from 'node:crypto'
import { type CrlFacts, isCrlOf } from './crl.ts'
import { readNameForLog } from './der-reader.ts'
import { MaterialError } from './errors.ts'
import { subjectName } from './subject.ts'

/** What is checked; `file` and `caFile` are for messages. */
export interface CrlCheck {
  readonly file: string
  readonly crls: readonly CrlFacts[]
  readonly caFile: string
  readonly authorities: readonly X509Certificate[]
  readonly nowMs: number
}

/** A list is renewed by somebody who has to get at a key: a week's notice. */
const DUE_SOON_MS = 7 * 86_400_000

type Gap = { readonly kind: 'missing' } | { readonly kind: 'expired' | 'early'; readonly atMs: number }

/**
 * Adds warnings for authorities whose clients are refused, for lists that must be renewed within a week, and for lists of
 * nobody here. Throws MaterialError if no authority is covered, so that nobody could come in by certificate.
 */
export function checkCrls(check: CrlCheck, warnings: string[]): void {
  const { file, crls, authorities } = check
  const strangers = crls.filter(crl => !authorities.some(authority => isCrlOf(crl, authority)))
  const gaps = authorities.flatMap(authority => {
    const gap = gapOf(authority, check)
    return gap === undefined ? [] : [{ authority, gap, text: sentenceOf(authority, gap) }]
  })
  const uncovered = (authority: X509Certificate): boolean => {
    if (gaps.some(gap => gap.authority === authority)) return true
    // The whole chain is checked: a list of the root covers the intermediate that it certified.
    const issuer = authorities.find(other => other !== authority && authority.checkIssued(other))
    return issuer !== undefined && !authority.checkIssued(authority) && uncovered(issuer)
  }
  const strangerTexts = strangers.map(crl => strangerSentence(crl, check))
  const [first] = gaps
  if (first !== undefined && authorities.every(uncovered)) {
    const all = [...gaps.map(({ text }) => text), ...strangerTexts].join('; ')
    const code = first.gap.kind === 'missing' ? 'NO_CRL' : first.gap.kind === 'expired' ? 'EXPIRED' : 'NOT_YET_VALID'
    throw new MaterialError(code, file, `${all}; no client could come in`)
  }
  for (const { text } of gaps) warnings.push(`${file}: ${text}; its clients are refused`)
  for (const text of strangerTexts) warnings.push(`${file}: ${text}`)
  for (const crl of crls) {
    const { nextUpdateMs } = crl
    if (strangers.includes(crl) || nextUpdateMs === undefined || nextUpdateMs <= check.nowMs) continue
    if (nextUpdateMs - check.nowMs >= DUE_SOON_MS) continue
    warnings.push(`${file}: the CRL of ${crl.issuer} ends on ${at(nextUpdateMs)}; then all its clients are refused`)
  }
}

/** Why an authority is not covered: of its lists the one that ends last counts. */
function gapOf(authority: X509Certificate, { crls, nowMs }: CrlCheck): Gap | undefined {
  const own = crls.filter(crl => isCrlOf(crl, authority))
  const endOf = (crl: CrlFacts) => crl.nextUpdateMs ?? Number.POSITIVE_INFINITY
  const [best] = own.toSorted((a, b) => endOf(b) - endOf(a))
  if (best === undefined) return { kind: 'missing' }
  if (endOf(best) <= nowMs) return { kind: 'expired', atMs: endOf(best) }
  return best.thisUpdateMs > nowMs ? { kind: 'early', atMs: best.thisUpdateMs } : undefined
}

function sentenceOf(authority: X509Certificate, gap: Gap): string {
  const who = readNameForLog(subjectName(authority))
  switch (gap.kind) {
    case 'missing':
      return `there is no CRL of ${who}`
    case 'expired':
      return `the CRL of ${who} expired on ${at(gap.atMs)}`
    case 'early':
      return `the CRL of ${who} is not valid before ${at(gap.atMs)}`
    default:
      return gap satisfies never
  }
}

function strangerSentence(crl: CrlFacts, { authorities, caFile }: CrlCheck): string {
  const namesake = authorities.some(authority => subjectName(authority).equals(crl.issuerName))
  if (namesake) return `the CRL of ${crl.issuer} is signed by another key than that of ${caFile}`
  return `the CRL of ${crl.issuer} is of no authority in ${caFile}`
}

function at(ms: number): string {
  return new Date(ms).toISOString()
}
