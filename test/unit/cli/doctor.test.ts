import { describe, expect, it } from 'vitest'
import { limitFindings } from '../../../src/cli/doctor-doors.ts'
import { nodeFinding } from '../../../src/cli/doctor-runtime.ts'
import { serverOf } from '../../../src/cli/doctor-upstreams.ts'
import { parseConfig } from '../../../src/config/load.ts'

const TIME = Date.parse('2026-11-25T00:00:00Z')

describe('doctor on Node', () => {
  it.each([
    ['20.20.2', 'warning', 'past its end of life (2026-04-30)'],
    ['20.18.1', 'problem', 'older than 20.19'],
    ['18.20.4', 'problem', 'older than 20.19'],
    ['24.21.0', 'fine', 'supported until 2028-04-30'],
    ['40.0.0', 'fine', 'Node.js 40.0.0'],
  ])('%s: %s', (version, level, what) => {
    const finding = nodeFinding(version, TIME)
    expect([finding.level, finding.what]).toEqual([level, expect.stringContaining(what)])
  })

  it('warns before the end of life', () => {
    expect(nodeFinding('22.20.0', Date.parse('2027-03-01T00:00:00Z')).what).toContain('reaches its end of life')
  })
})

describe('doctor on descriptors', () => {
  const config = parseConfig(
    'version: 1\ndoors: [{ unix: a.sock }]\nexports: []\nlimits: { sessions: 500 }\n',
    'a.yaml',
  )
  const limits = (most: string) =>
    `Limit  Soft Limit  Hard Limit  Units\nMax open files            256                  ${most}   files\n`

  it.each([
    ['1064', 'fine'],
    ['unlimited', 'fine'],
    ['1063', 'warning'],
  ])('a hard limit of %s for 500 sessions is %s', (most, level) => {
    expect(limitFindings(config, limits(most)).map(each => each.level)).toEqual([level])
  })

  it('says nothing where the system does not tell', () => {
    expect(limitFindings(config, '')).toEqual([])
  })
})

describe('doctor on servers', () => {
  it.each([
    [undefined, 'an unknown server'],
    ['GO refused with ERR_UNKNOWN: no such export for you', 'nbdgate'],
    ['GO refused with ERR_UNKNOWN', 'an unknown server'],
  ])('takes the answer %j for %s', (answer, server) => {
    expect(serverOf(answer)).toBe(server)
  })
})
