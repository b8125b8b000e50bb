// `nbdgate audit`: check, read and seal the audit trail. Reads files only: a gateway may be writing them.
import { appendFileSync, existsSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { Command } from 'commander'
import { linesOf } from '../observe/trail-lines.ts'
import { decodeRecord, type TrailRecord } from '../observe/trail-record.ts'
import { loadPublicKey, loadSealKey, makeSeal } from '../observe/trail-seal.ts'
import { type Finding, type Verdict, verifyTrail } from '../observe/trail-verify.ts'
import { printable } from '../protocol/strings.ts'
import { UsageError } from './errors.ts'

interface SealFlags {
  readonly key?: string
  readonly seals?: string
  readonly json?: boolean
}

/** `nbdgate audit`. */
export function auditCommand(): Command {
  return new Command('audit')
    .description('check, read and seal the audit trail')
    .addCommand(verifyCommand())
    .addCommand(showCommand())
    .addCommand(sealCommand())
}

function verifyCommand(): Command {
  return new Command('verify')
    .description('find any record that was changed, removed or reordered')
    .argument('<file...>', 'the files of one trail, the oldest first: state/audit*.jsonl')
    .option('--key <file>', 'public Ed25519 key: check the seals, and insist on one')
    .option('--seals <file>', 'where the seals are (default: audit.seals beside the last file)')
    .option('--json', 'print JSON')
    .action((files: string[], flags: SealFlags) => {
      const verdict = verify(files, flags)
      const broken = verdict.findings.filter(({ kind }) => kind === 'broken')
      const intact = broken.length === 0
      if (!intact) process.exitCode = 1
      if (flags.json === true) print(JSON.stringify({ intact, ...verdict }, undefined, 2))
      else print(...verdict.findings.map(findingLine), `${files.at(-1)}: ${summary(verdict, broken.length)}`)
    })
}

function showCommand(): Command {
  return new Command('show')
    .description('print the records of the audit trail, one a line')
    .argument('<file...>', 'the files of one trail, the oldest first')
    .option('--json', 'print one JSON array')
    .action((files: string[], flags: { readonly json?: boolean }) => {
      let separator = '[\n'
      for (const { file, number, bytes } of allLines(files)) {
        const record = decodeRecord(bytes)
        if (record === undefined) {
          process.exitCode = 1
          process.stderr.write(`${file}:${number}: this is no record, or it was changed\n`)
        } else if (flags.json === true) {
          process.stdout.write(`${separator}${JSON.stringify(flatten(record))}`)
          separator = ',\n'
        } else print(recordLine(record))
      }
      if (flags.json === true) print(separator === '[\n' ? '[]' : '\n]')
    })
}

function sealCommand(): Command {
  return new Command('seal')
    .description('sign the last record, so that nothing up to it can be removed or changed unseen')
    .argument('<file...>', 'the files of one trail, the oldest first; the last one alone will do')
    .requiredOption('--key <file>', 'private Ed25519 key (PEM); keep it elsewhere')
    .option('--seals <file>', 'where to append the seal (default: audit.seals beside the last file)')
    .option('--json', 'as JSON, which a seal is anyway')
    .action((files: string[], flags: SealFlags & { readonly key: string }) => {
      const key = loadSealKey(flags.key)
      const { head, findings } = verify(files, { seals: flags.seals })
      const broken = findings.filter(({ kind }) => kind === 'broken')
      if (broken.length > 0) throw new Error(`a broken trail is not sealed\n${broken.map(findingLine).join('\n')}`)
      if (head === undefined) throw new Error(`${files.at(-1)}: there is no record to seal`)
      const seal = makeSeal(head, new Date().toISOString(), key)
      appendFileSync(sealsOf(files, flags), `${seal}\n`, { mode: 0o600 })
      print(seal)
    })
}

function verify(
  files: readonly string[],
  flags: { readonly key?: string; readonly seals?: string | undefined },
): Verdict {
  const absent = files.find(file => !existsSync(file))
  if (absent !== undefined) throw new UsageError(`${absent}: there is no such file`)
  const key = flags.key === undefined ? undefined : loadPublicKey(flags.key)
  return verifyTrail(files, { seals: sealsOf(files, flags), key })
}

function sealsOf(files: readonly string[], { seals }: { readonly seals?: string | undefined }): string {
  return seals ?? join(dirname(files.at(-1) ?? ''), 'audit.seals')
}

function* allLines(files: readonly string[]) {
  for (const file of files) {
    if (!existsSync(file)) throw new UsageError(`${file}: there is no such file`)
    for (const line of linesOf(file)) yield { file, ...line }
  }
}

const NOTES = { broken: '', torn: 'torn: ', 'begins late': 'note: ' } as const

function findingLine({ kind, file, line, message }: Finding): string {
  return `${file}:${line}: ${NOTES[kind]}${printable(message)}`
}

function summary({ records, first, head, seals }: Verdict, broken: number): string {
  const range = first === undefined || head === undefined ? 'no records' : `${records} records, ${first} to ${head.seq}`
  const signed = seals.checked ? 'signed up to' : 'sealed (signatures not checked: --key) up to'
  const sealed = seals.last === undefined ? '' : `, ${signed} ${seals.last}`
  return broken === 0 ? `intact: ${range}${sealed}` : `broken at ${broken} lines: ${range}`
}

function flatten({ seq, time, kind, facts, prev, hash }: TrailRecord): Readonly<Record<string, unknown>> {
  return { seq, time, kind, ...facts, prev, hash }
}

function recordLine({ seq, time, kind, facts }: TrailRecord): string {
  const words = Object.entries(facts).map(([name, value]) => `${name}=${valueText(value)}`)
  return printable(`${seq} ${time} ${kind}${words.length === 0 ? '' : ': '}${words.join(' ')}`, 8192)
}

/** A word as it is; what would not be one word in quotes. */
function valueText(value: unknown): string {
  if (typeof value === 'object' && value !== null) {
    const parts = Object.entries(value).map(([name, each]) => `${name}=${valueText(each)}`)
    return `(${parts.join(' ')})`
  }
  const text = String(value)
  return /^[^\s"()]+$/.test(text) ? text : JSON.stringify(text)
}

function print(...lines: readonly string[]): void {
  process.stdout.write(`${lines.join('\n')}\n`)
}
