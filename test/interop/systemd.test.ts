// The units in config/systemd, judged by systemd itself.
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { expect } from 'vitest'
import { test } from '../support/fixtures.ts'
import { run } from '../support/process.ts'
import { requires } from '../support/requires.ts'

const UNITS = fileURLToPath(new URL('../../config/systemd/', import.meta.url))
/** Of 100: 2.5 in systemd's words. */
const THRESHOLD = 25

/** The units with a program that is there, and a path that a temporary folder does not have. */
function units(dir: string): readonly string[] {
  cpSync(UNITS, dir, { recursive: true })
  const names = readdirSync(UNITS)
  for (const name of names.filter(each => each.endsWith('.service'))) {
    const text = readFileSync(join(dir, name), 'utf8')
    expect(text).toMatch(/^ExecStart=\/usr\/bin\/nbdgate (serve|inetd) --config \/etc\/nbdgate\/nbdgate\.yaml$/m)
    writeFileSync(join(dir, name), text.replaceAll('/usr/bin/nbdgate', process.execPath))
  }
  return names
}

requires('systemd-analyze')('the units', () => {
  test('have nothing that systemd would ignore or refuse', async ({ dir }) => {
    const names = units(dir)
    expect(names.toSorted()).toEqual([
      'nbdgate-inetd.socket',
      'nbdgate-inetd@.service',
      'nbdgate.service',
      'nbdgate.socket',
    ])
    const { code, stdout, stderr } = await run(
      ['systemd-analyze', 'verify', '--man=no', ...names.map(name => join(dir, name))],
      {
        cwd: dir,
      },
    )
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '', stderr: '' })
  })

  test('leave little to whoever gets hold of the gateway', async ({ dir }) => {
    for (const name of units(dir).filter(each => each.endsWith('.service'))) {
      const security = ['systemd-analyze', 'security', '--offline=true', '--no-pager']
      const { code, stdout } = await run([...security, `--threshold=${THRESHOLD}`, join(dir, name)], { cwd: dir })
      expect({ name, code }, stdout).toEqual({ name, code: 0 })
      // It can say no: a threshold that nothing passes.
      expect((await run([...security, '--threshold=1', join(dir, name)], { cwd: dir })).code).not.toBe(0)
    }
  })
})
