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
  // Readline echoes to its output, and this one shows nothing; the terminal's own echo is off as long as it is open.
  const output = new Writable({ write: (_chunk, _encoding, done) => done() })
  const lines = createInterface({ input: process.stdin, output, terminal: true })
  // Ctrl-C and Ctrl-D close it, and leave the question open.
  const closed = new Promise<never>((_resolve, reject) => {
    lines.once('close', () => reject(new UsageError('no password was given')))
  })
  const ask = async (prompt: string): Promise<string> => {
    process.stderr.write(prompt)
    const answer = await Promise.race([lines.question(''), closed])
    process.stderr.write('\n')
    return answer
  }
  try {
    const password = await ask('Password: ')
    if ((await ask('Again: ')) !== password) throw new UsageError('the two passwords differ')
    return password
  } finally {
    lines.close()
  }
}
