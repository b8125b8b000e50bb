#!/usr/bin/env node
import { accessSync, constants, existsSync } from 'node:fs'
import module from 'node:module'
import { join } from 'node:path'
import { parseInetdFlags } from './cli/inetd-flags.ts'

/**
 * What V8 has compiled is kept beside the program, by whoever may write there, for all who may read it: since Node 22.8. Not in a
 * folder for everybody, as Node does it by default: who can write to the cache decides what the program does.
 */
function keepCompiled(): void {
  const enable: unknown = Reflect.get(module, 'enableCompileCache')
  const folder = join(import.meta.dirname, 'cache')
  if (typeof enable === 'function' && (existsSync(folder) || mayWrite(import.meta.dirname))) enable(folder)
}

function mayWrite(folder: string): boolean {
  try {
    accessSync(folder, constants.W_OK)
    return true
  } catch {
    return false
  }
}

/** What is started again and again has no use for the command line and all that it loads. */
async function run(argv: readonly string[]): Promise<number> {
  const command = argv[2]
  if (command === 'worker') return await (await import('./cli/worker.ts')).run(argv)
  const flags = command === 'inetd' ? parseInetdFlags(argv.slice(3)) : undefined
  if (flags !== undefined) return await (await import('./cli/inetd-serve.ts')).inetd(flags)
  return await (await import('./cli/program.ts')).run(argv)
}

keepCompiled()
process.exitCode = await run(process.argv)
