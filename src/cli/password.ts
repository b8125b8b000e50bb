// A password for a file that is made: from another file or from the terminal, never from the command line, which every
// user of the host can read.
import { readFileSync } from 'node:fs'
import { createInterface } from 'node:readline/promises'
import { Writable } from 'node:stream'
import { UsageError } from './errors.ts'

/** The first line of the file; without one it is asked for twice. @throws UsageError if it is empty, or nobody can be asked */
export async function newPassword(file: string | undefined): Promise<string> {
  const password = file === undefined ? await askTwice() : (readFileSync(file, 'utf8').split(/\r?\n/)[0] ?? '')
  if (password === '') throw new UsageError('the password is empty')
  return password
}

async function askTwice(): Promise<string> {
  if (!process.stdin.isTTY) throw new UsageError('there is no terminal to ask for a password: use --password-file')
  const password = await ask('Password: ')
  if ((await ask('Again: ')) !== password) throw new UsageError('the two passwords differ')
  return password
}

async function ask(prompt: string): Promise<string> {
  process.stderr.write(prompt)
  // Readline echoes to its output: this one shows nothing.
  const output = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: process.stdin, output, terminal: true })
  try {
    return await lines.question('')
  } finally {
    lines.close()
    process.stderr.write('\n')
  }
}
