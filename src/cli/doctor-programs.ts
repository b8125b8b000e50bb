import { accessSync, constants, statSync } from 'node:fs'
import { delimiter, join } from 'node:path'
import type { Config } from '../config/config.ts'
import { printable } from '../protocol/strings.ts'
import { type Finding, fine, problem } from './doctor-finding.ts'

/** Whether the programs that exports run before and behind a session are there. */
export function programFindings({ exports, discoveries = [] }: Config): readonly Finding[] {
  return [...exports, ...discoveries].flatMap(each => {
    const { prepare, cleanup, authorize } = each.hooks ?? {}
    return Object.entries({ prepare, cleanup, authorize }).flatMap(([hook, argv]) => {
      if (argv === undefined) return []
      const name = 'name' in each ? each.name : each.pattern
      const check = `${hook} of ${JSON.stringify(printable(name))}`
      const program = argv[0] ?? ''
      const why = programProblem(program)
      if (why === undefined) return [fine(check, `${program}: is there`)]
      return [problem(check, `${program}: ${why}`, 'install it, or name it with its folder')]
    })
  })
}

/** Why a program can not be run; undefined if it can. */
export function programProblem(program: string): string | undefined {
  const folders = program.includes('/') ? [''] : (process.env.PATH ?? '').split(delimiter).filter(each => each !== '')
  const found = folders.map(folder => (folder === '' ? program : join(folder, program))).filter(isFile)
  if (found.length === 0) return program.includes('/') ? 'there is no such file' : 'it is not in PATH'
  return found.some(isExecutable) ? undefined : 'it may not be executed'
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}
