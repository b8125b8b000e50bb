import { expect, it } from 'vitest'
import { parseInetdFlags } from '../../../src/cli/inetd-flags.ts'

it.each([
  [['--config', 'a.yaml'], { config: 'a.yaml', door: undefined }],
  [['-c', 'a.yaml', '--door', 'tls'], { config: 'a.yaml', door: 'tls' }],
  [['--door=unix', '--config=a=b.yaml'], { config: 'a=b.yaml', door: 'unix' }],
])('inetd understands %j without the command line', (words, flags) => {
  expect(parseInetdFlags(words)).toEqual(flags)
})

it.each([
  [[]],
  [['--door', 'tls']],
  [['--config']],
  [['--config', '--door', 'tls']],
  [['--config', 'a', '--door', 'window']],
  [['--config', 'a', 'b']],
  [['--help']],
  [['--config', 'a', '--json']],
])('inetd leaves %j to the command line', words => {
  expect(parseInetdFlags(words)).toBeUndefined()
})
