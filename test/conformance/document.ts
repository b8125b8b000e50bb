/** The rows as text: CONFORMANCE.md, and the sum of it that README has. */
import type { Row, Side } from './rows.ts'

const SIDES: Readonly<Record<Side, string>> = {
  server: 'nbdgate as a server, towards its clients',
  client: 'nbdgate as a client, towards its upstreams',
}

const isKept = ({ status }: Row): boolean => status === 'proven' || status === 'cited'

function cell(text: string): string {
  return text.replaceAll('|', '\\|')
}

function outcome({ status, test, file, why }: Row): string {
  if (status === 'not applicable') return `not applicable: ${why}`
  if (status === 'not kept') return `**not kept**: ${why}${test === '' ? '' : ` (shown by “${test}”)`}`
  return status === 'cited' ? `kept: “${test}”, ${file}` : `kept: “${test}”`
}

/** CONFORMANCE.md. */
export function documentOf(rows: readonly Row[]): string {
  const lines = [
    '# Conformance',
    '',
    'Every rule (MUST, MUST NOT, SHOULD, SHOULD NOT) of the NBD protocol’s `doc/proto.md` that binds a server or a client, by',
    'chapter and by words of its sentence, and the test that fails when nbdgate breaks it. `npm run conformance` runs the tests',
    'and prints the table with how they went. The tests are in `test/conformance/`.',
  ]
  for (const side of ['server', 'client'] as const) {
    lines.push('', `## ${SIDES[side]}`)
    const own = rows.filter(row => row.side === side)
    for (const chapter of new Set(own.map(row => row.chapter))) {
      lines.push('', `### ${chapter}`, '', '| rule | |', '|---|---|')
      for (const row of own.filter(each => each.chapter === chapter)) {
        lines.push(`| ${cell(row.sentence)} | ${cell(outcome(row))} |`)
      }
    }
  }
  return `${lines.join('\n')}\n`
}

/** The sum where README has it. */
export const SUMMARY = /^\| \| kept \| not kept \| not applicable \|\n(\|.*\n)*/m

/** Rows by side, as README has them. */
export function summaryOf(rows: readonly Row[]): string {
  const count = (side: Side, fits: (row: Row) => boolean) => rows.filter(row => row.side === side && fits(row)).length
  const line = (side: Side) => {
    const counts = [isKept, (row: Row) => row.status === 'not kept', (row: Row) => row.status === 'not applicable']
    return `| ${SIDES[side]} | ${counts.map(fits => count(side, fits)).join(' | ')} |`
  }
  return ['| | kept | not kept | not applicable |', '|---|---|---|---|', line('server'), line('client')].join('\n')
}
