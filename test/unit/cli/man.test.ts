import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { allCommands, commandTree } from '../../../src/cli/command-tree.ts'
import { program } from '../../../src/cli/program.ts'
import { jsonSchema } from '../../../src/config/json-schema.ts'
import { VERSION } from '../../../src/observe/version.ts'
import { commandPage, configPage } from '../../support/man-pages.ts'

const folder = fileURLToPath(new URL('../../../config/man/', import.meta.url))
const example = readFileSync(new URL('../../../config/internet.yaml', import.meta.url), 'utf8')
const root = commandTree(program())

const PAGES = {
  'nbdgate.1': commandPage(root, VERSION),
  'nbdgate.yaml.5': configPage({ ...jsonSchema() }, VERSION, example),
}

describe('the manual', () => {
  it.each(Object.entries(PAGES))('%s is what the program says of itself', (name, wanted) => {
    if (process.env.UPDATE_MAN === '1') {
      mkdirSync(folder, { recursive: true })
      writeFileSync(`${folder}${name}`, wanted)
    }
    const hint = 'out of date: UPDATE_MAN=1 npx vitest run --project unit test/unit/cli/man.test.ts'
    expect(readFileSync(`${folder}${name}`, 'utf8') === wanted, hint).toBe(true)
  })

  it('has each command and each option', () => {
    const text = readFileSync(`${folder}nbdgate.1`, 'utf8').replaceAll('\\-', '-')
    const leaves = allCommands(root).filter(({ children }) => children.length === 0)
    expect(leaves.filter(({ path }) => !text.includes(`.SS "${path}"`))).toEqual([])
    const options = leaves.flatMap(each => each.options.map(({ long }) => long ?? ''))
    expect(options.filter(option => !text.includes(option))).toEqual([])
  })
})
