import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, it as test } from 'vitest'
import { type PreparationRecord, Records } from '../../../src/preparing/records.ts'

const OWNER = { pid: 1, started: '2', boot: 'b', namespace: 'n' }
const RECORD: PreparationRecord = {
  version: 1,
  id: 'disk-0123456789abcdef',
  export: '../../etc\n',
  who: 'uid:7',
  per: 'identity',
  phase: 'ready',
  isKept: false,
  createdMs: 1,
  usedMs: 2,
  cleanup: { argv: ['rm', '-f', '--', '/x'], env: { A: 'b' }, folder: '/', timeoutMs: 1 },
  overlay: '/x',
  socket: '/y',
  server: OWNER,
  gateway: OWNER,
}

function folder(): string {
  const path = mkdtempSync(join(tmpdir(), 'nbdgate-'))
  onTestFinished(() => rmSync(path, { recursive: true, force: true }))
  return path
}

test('what was written down is there again, as it was last', () => {
  const path = folder()
  const records = new Records(path)
  for (const durable of [true, false]) records.write(RECORD, { durable })
  records.write({ ...RECORD, isKept: true }, { durable: false })
  const again = new Records(path)
  expect(again.all(() => expect.unreachable())).toEqual([{ ...RECORD, isKept: true }])
  again.remove(RECORD.id)
  expect(again.all(() => expect.unreachable())).toEqual([])
  expect(readdirSync(path)).toEqual([])
})

test('what is no record is told of, and left alone', () => {
  const path = folder()
  const records = new Records(path)
  records.write(RECORD, { durable: false })
  const bad: readonly (readonly [string, string])[] = [
    ['half.json', JSON.stringify(RECORD).slice(0, 40)],
    ['other-name.json', JSON.stringify(RECORD)],
    ['climbs.json', JSON.stringify({ ...RECORD, id: '../climbs' })],
    ['later.json', JSON.stringify({ ...RECORD, version: 2 })],
    ['empty.json', ''],
  ]
  for (const [name, text] of bad) writeFileSync(join(path, name), text)
  writeFileSync(join(path, `${RECORD.id}.json.new`), 'a write that a crash has cut')
  const told: string[] = []
  expect(records.all(file => told.push(file))).toEqual([RECORD])
  expect(told.toSorted()).toEqual(bad.map(([name]) => join(path, name)).toSorted())
})
