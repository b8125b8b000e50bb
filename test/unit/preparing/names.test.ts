import fc from 'fast-check'
import { expect, it } from 'vitest'
import type { Identity } from '../../../src/policy/identity.ts'
import { isKnown, preparationId, safeName } from '../../../src/preparing/names.ts'

const SAFE = /^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$/

function bearer(commonName: string, fingerprint: string): Identity {
  const none = { organizationalUnits: [], dnsNames: [], emails: [], uris: [], ips: [] }
  const rest = { subject: '', spki: '', serial: '', notAfterMs: 0 }
  return { certificate: { ...none, ...rest, commonNames: [commonName], organizations: ['lab'], fingerprint } }
}

const id = (name: string, per: 'connection' | 'identity' | 'export', identity: Identity = { uid: 7 }) =>
  preparationId({ export: name, per, identity })

it.each(['disk', 'a', 'vm-1', 'v1.2', 'A_b-c.d'])('%s stays as it is', name => {
  expect(safeName(name)).toBe(name)
})

it.each([
  ['../../etc', /^etc-[0-9a-f]{16}$/],
  ['-rf', /^rf-[0-9a-f]{16}$/],
  ['', /^x-[0-9a-f]{16}$/],
  ['..', /^x-[0-9a-f]{16}$/],
  ['.hidden', /^hidden-[0-9a-f]{16}$/],
  ['two\nlines', /^two-lines-[0-9a-f]{16}$/],
  ['disk\n', /^disk-[0-9a-f]{16}$/],
  ['x'.repeat(4096), /^x{32}-[0-9a-f]{16}$/],
  // It would pass for the name of another one.
  ['etc-0123456789abcdef', /^etc-0123456789abcdef-[0-9a-f]{16}$/],
])('%j becomes harmless', (name, form) => {
  expect(safeName(name)).toMatch(form)
})

it('no name leaves its folder, and no two share one', () => {
  const name = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 80 }),
    fc.string({ unit: fc.constantFrom(...'a./-\n_') }),
  )
  fc.assert(
    fc.property(name, name, (one, two) => {
      expect(safeName(one)).toMatch(SAFE)
      expect(safeName(one).length).toBeLessThan(64)
      expect(id(one, 'identity', { psk: two })).toMatch(SAFE)
      if (one !== two) expect(safeName(one)).not.toBe(safeName(two))
      if (one !== two) expect(id(one, 'export')).not.toBe(id(two, 'export'))
      if (one !== two) expect(id(one, 'identity', { psk: two })).not.toBe(id(two, 'identity', { psk: one }))
    }),
  )
})

it('a connection has another id each time, an identity the same for as long as its names last', () => {
  expect(id('disk', 'connection')).not.toBe(id('disk', 'connection'))
  expect(id('disk', 'export')).toBe(id('disk', 'export', { uid: 8 }))
  const [alice, renewed, bob] = [bearer('alice', '1a'), bearer('alice', '2b'), bearer('bob', '3c')]
  expect(id('disk', 'identity', alice)).toBe(id('disk', 'identity', renewed))
  expect(id('disk', 'identity', alice)).not.toBe(id('disk', 'identity', bob))
  expect(id('disk', 'identity', alice)).toMatch(/^disk-cert-cn-alice-[0-9a-f]{16}$/)
})

it('who is not known is nobody', () => {
  expect(isKnown({})).toBe(false)
  expect(isKnown({ address: '192.0.2.1' })).toBe(true)
})
