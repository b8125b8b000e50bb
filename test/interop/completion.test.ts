// What a shell offers at the Tab key, asked of the shells themselves: bash's function as readline calls it, fish by
// `complete -C`, zsh in a terminal of its own.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { test as base } from '../support/fixtures.ts'
import { MAIN } from '../support/gateway.ts'
import { run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'

/** The script of a shell in a file, in a folder with things to complete. */
const test = base.extend('script', async ({ dir }) => {
  await writeFile(join(dir, 'gate.yaml'), '')
  await mkdir(join(dir, 'gatefolder'))
  return async (shell: string) => {
    const file = join(dir, `script.${shell}`)
    await writeFile(file, await runOk([process.execPath, MAIN, 'completion', shell]))
    return file
  }
})

/** What is typed after `nbdgate`, and what is offered for its last word. */
const OFFERS: readonly (readonly [typed: string, offered: readonly string[]])[] = [
  ['cer', ['certs']],
  ['certs re', ['renew', 'revoke']],
  ['certs revoke --reason key', ['keyCompromise']],
  ['explain --door t', ['tcp', 'tls']],
  ['completion ', ['bash', 'fish', 'zsh']],
  ['serve --config gate', ['gate.yaml', 'gatefolder']],
  ['certs init --dir gate', ['gatefolder']],
  ['certs init --day', ['--days']],
]

const words = (text: string): readonly string[] =>
  text
    .split('\n')
    .map(line => line.replace(/\/?(\t.*)?$/, ''))
    .filter(line => line !== '')
    .toSorted()

requires('bash')('bash', () => {
  const ASK =
    // biome-ignore lint/suspicious/noTemplateCurlyInString: an array of bash
    'source "$1"; shift; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _nbdgate; printf "%s\\n" "${COMPREPLY[@]}"'
  const ask = (file: string, dir: string, ...typed: readonly string[]) =>
    runOk(['bash', '--norc', '-c', ASK, 'bash', file, 'nbdgate', ...typed], { cwd: dir })

  test('offers commands, options, files, folders and the words of an option', async ({ dir, script }) => {
    const file = await script('bash')
    for (const [typed, offered] of OFFERS) {
      expect([typed, words(await ask(file, dir, ...typed.split(' ')))]).toEqual([typed, offered])
    }
  })

  test('knows --option=value, which comes as three words', async ({ dir, script }) => {
    expect(words(await ask(await script('bash'), dir, 'explain', '--door', '=', 's'))).toEqual(['ssh'])
  })
})

requires('fish')('fish', () => {
  test('offers commands, options, files, folders and the words of an option', async ({ dir, script }) => {
    const file = await script('fish')
    for (const [typed, offered] of OFFERS) {
      const ask = 'source $argv[1]; complete -C "nbdgate $argv[2]"'
      const env = { HOME: dir, XDG_CONFIG_HOME: dir, XDG_DATA_HOME: dir }
      const told = await runOk(['fish', '-N', '-c', ask, file, typed], { cwd: dir, env })
      expect([typed, words(told)]).toEqual([typed, offered])
    }
  })
})

requires('zsh')('zsh', () => {
  /** Types each line with a Tab before Enter, into a shell where nbdgate says how it was called. */
  const ASK = `
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell 'PS1=""; autoload -Uz compinit; compinit -u -D; source '"$1"'; nbdgate() { print "ca""lled <$*>" }; print rea""dy'
zpty -r -m shell told '*ready*'
shift
for line; do
  zpty -w -n shell "nbdgate $line"$'\\t\\n'
  zpty -r -m shell told '*called <*>*'
  print -r -- "\${\${told##*called <}%%>*}"
done
zpty -d shell`

  test('completes commands, options, files and the words of an option', async ({ dir, script }) => {
    const file = await script('zsh')
    const typed = ['cer', 'certs revoke --rea', 'explain --door ss', 'serve --config gate.', 'certs init --dir gatef']
    const { code, stdout, stderr } = await run(['zsh', '-f', '-c', ASK, 'zsh', file, ...typed], {
      cwd: dir,
      env: { TERM: 'dumb', HOME: dir },
    })
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' })
    expect(stdout.trimEnd().split('\n')).toEqual([
      'certs',
      'certs revoke --reason',
      'explain --door ssh',
      'serve --config gate.yaml',
      'certs init --dir gatefolder',
    ])
  })
})
