import type { CertificateFacts } from '../managed.ts'
import { durationText } from './format.ts'
import { LiveTable } from './live-table.ts'

const USES: Readonly<Record<CertificateFacts['use'], string>> = {
  server: 'server',
  'client-ca': "clients' authority",
  crl: 'revocation list',
  'upstream-client': 'client, to an upstream',
  'upstream-ca': "upstream's authority",
}
const STATES: Readonly<Record<CertificateFacts['state'], string>> = {
  good: 'good',
  soon: 'ends soon',
  over: 'has ended',
  unreadable: 'can not be read',
}

/** Those that end first come first; what can not be read before all. */
export function byEnd(certificates: readonly CertificateFacts[]): readonly CertificateFacts[] {
  const endOf = ({ ends, state }: CertificateFacts): number =>
    state === 'unreadable' ? -Infinity : ends === undefined ? Infinity : Date.parse(ends)
  return certificates.toSorted((a, b) => (endOf(a) === endOf(b) ? 0 : endOf(a) - endOf(b)))
}

export function certificateTable(): LiveTable<CertificateFacts> {
  return new LiveTable<CertificateFacts>({
    caption: 'Certificates and revocation lists',
    key: ({ use, file }) => `${use} ${file}`,
    empty: 'the configuration names none',
    columns: [
      { head: 'File', text: ({ file }) => fileName(file), more: ({ use }) => USES[use], title: ({ file }) => file },
      { head: 'State', text: ({ state }) => STATES[state], kind: ({ state }) => state },
      {
        head: 'Ends',
        text: ({ ends }) => (ends === undefined ? '–' : endText(Date.parse(ends) - Date.now())),
        title: ({ ends }) => (ends === undefined ? '' : new Date(ends).toLocaleString()),
        isNumber: true,
      },
    ],
  })
}

function endText(ms: number): string {
  return ms < 0 ? `${durationText(-ms)} ago` : `in ${durationText(ms)}`
}

function fileName(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1)
}
