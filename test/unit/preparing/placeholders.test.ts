import { afterEach, expect, it, vi } from 'vitest'
import { environment, fill } from '../../../src/preparing/placeholders.ts'

const VALUES = { export: 'disk', identity: '{overlay}', id: 'disk-1', overlay: '/s/overlays/disk-1' }

afterEach(() => vi.unstubAllEnvs())

it('arguments get their values, in one pass, and keep what is none', () => {
  const argv = ['{export}', 'of={overlay}.img', '{identity}', '{socket}', 'json:{"a":{}}', '{}', '{id}{id}']
  const filled = ['disk', 'of=/s/overlays/disk-1.img', '{overlay}', '{socket}', 'json:{"a":{}}', '{}', 'disk-1disk-1']
  expect(fill(argv, VALUES)).toEqual(filled)
})

it('the environment has the values and nothing that was not asked for', () => {
  vi.stubEnv('AWS_SECRET_ACCESS_KEY', 'secret')
  vi.stubEnv('PATH', '/opt/bin')
  const env = environment(VALUES)
  expect(env).toMatchObject({ PATH: '/opt/bin', NBDGATE_EXPORT: 'disk', NBDGATE_OVERLAY: '/s/overlays/disk-1' })
  expect(env.AWS_SECRET_ACCESS_KEY).toBeUndefined()
})
