import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { jsonSchema } from '../../../src/config/json-schema.ts'
import { loadConfig } from '../../../src/config/load.ts'
import { compilePolicy } from '../../../src/policy/compile.ts'
import { decide } from '../../../src/policy/decide.ts'
import { whoProblem } from '../../../src/policy/who.ts'

const folder = new URL('../../../config/', import.meta.url)
const pathOf = (name: string): string => fileURLToPath(new URL(name, folder))
const load = (name: string) => loadConfig(pathOf(name), { validateWho: whoProblem })
const examples = readdirSync(folder).filter(name => name.endsWith('.yaml'))

describe('the examples in config/', () => {
  test('are there for each way of the how-to', () => {
    expect(examples).toEqual(expect.arrayContaining(['internet.yaml', 'trusted-network.yaml', 'unix.yaml', 'vpn.yaml']))
  })

  test.each(examples)('%s loads without a problem', name => {
    expect(load(name).exports.length).toBeGreaterThan(0)
  })

  test.each(examples)('%s names the schema for editors in its first line', name => {
    const [first] = readFileSync(pathOf(name), 'utf8').split('\n')
    expect(first).toBe('# yaml-language-server: $schema=./nbdgate.schema.json')
  })

  test('vpn.yaml decides what its comments say', () => {
    const [backup] = load('vpn.yaml').exports
    if (backup === undefined) throw new Error('no export')
    const rightsOf = (address: string): string => {
      const decision = decide(compilePolicy(backup), { identity: { address }, door: 'tcp' }, 0)
      return decision.kind === 'granted' ? decision.rights : decision.reason
    }
    expect(rightsOf('10.8.0.7')).toBe('write')
    expect(rightsOf('::ffff:10.8.0.8')).toBe('read')
    expect(rightsOf('10.8.0.66')).toBe('denied')
    expect(rightsOf('10.8.1.1')).toBe('no rule')
  })
})

test('config/nbdgate.schema.json is what the schema generates', () => {
  const file = pathOf('nbdgate.schema.json')
  const wanted = `${JSON.stringify(jsonSchema(), null, 2)}\n`
  if (process.env.UPDATE_SCHEMA === '1') writeFileSync(file, wanted)
  const hint = 'out of date: UPDATE_SCHEMA=1 npx vitest run --project unit test/unit/config/examples.test.ts'
  expect(readFileSync(file, 'utf8') === wanted, hint).toBe(true)
})
