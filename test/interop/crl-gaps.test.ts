// Lists that do not cover an authority of client-ca: its clients stay outside, openssl and `nbdgate check` say why, and the
// clients of the other authority never notice.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { type LeafFiles, writeClient } from '../../src/pki/files.ts'
import { mintAuthority, mintClient } from '../../src/pki/mint.ts'
import { emptyCrl } from '../../src/pki/revocation.ts'
import { test } from '../support/fixtures.ts'
import { MAIN } from '../support/gateway.ts'
import type { TestPki } from '../support/pki.ts'
import { run } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { config, nbdsUri, tlsDoor } from './configs.ts'

const DAY_MS = 86_400_000
const daysAgo = (days: number) => new Date(Date.now() - days * DAY_MS)

const LAB = mintAuthority({ name: 'lab' })
const PARTNER = mintAuthority({ name: 'partner' })

interface Ground {
  readonly file: string
  readonly ca: string
  readonly crl: string
  readonly yaml: string
  readonly alice: LeafFiles
  readonly dave: LeafFiles
}

/** alice is of the lab, dave of the partner; both may read. */
async function ground(dir: string, pki: TestPki, lists: readonly string[]): Promise<Ground> {
  const [ca, crl, disk, file] = ['ca.pem', 'crl.pem', 'disk.img', 'check.yaml'].map(name => join(dir, name))
  if (ca === undefined || crl === undefined || disk === undefined || file === undefined) throw new Error('no names')
  await writeFile(ca, LAB.certificatePem + PARTNER.certificatePem)
  await writeFile(crl, lists.join(''))
  await writeFile(disk, Buffer.alloc(1024 * 1024))
  const allow = [{ who: 'anyone', rights: 'read' }]
  const yaml = config([tlsDoor(pki, { 'client-ca': ca, crl })], [{ name: 'disk', upstream: { file: disk }, allow }])
  await writeFile(file, yaml)
  const [lab, partner] = [mintClient(LAB, { name: 'alice' }), mintClient(PARTNER, { name: 'dave' })]
  // They believe the server, whose authority is another one.
  const authorityPem = pki.server.ca
  const alice = writeClient(dir, 'alice', { ...lab, authorityPem: '' })
  const dave = writeClient(dir, 'dave', { ...partner, authorityPem: '' })
  for (const { ca: own } of [alice, dave]) await run(['cp', authorityPem, own])
  return { file, ca, crl, yaml, alice, dave }
}

const check = (file: string) => run([process.execPath, MAIN, 'check', file])
const nbdinfo = (port: number, leaf: LeafFiles) => run(['nbdinfo', '--json', nbdsUri(port, 'disk', leaf)])

function opensslVerify({ ca, crl }: Ground, leaf: LeafFiles) {
  return run(['openssl', 'verify', '-crl_check', '-CAfile', ca, '-CRLfile', crl, leaf.cert])
}

requires('openssl', 'nbdinfo')('a revocation list', () => {
  test.for([
    ['expired', [emptyCrl(PARTNER, { now: daysAgo(40), days: 30 })], 'CRL expired', /CRL has expired/, /expired on/],
    ['missing', [], 'no CRL', /unable to get certificate CRL/, /there is no CRL of CN=partner/],
  ] as const)(
    'that is %s keeps out the clients of its authority, and no others',
    async (row, { dir, pki, gateway }) => {
      const [, lists, reason, opensslSays, checkSays] = row
      const place = await ground(dir, pki, [emptyCrl(LAB), ...lists])
      expect(await opensslVerify(place, place.alice)).toMatchObject({ code: 0 })
      expect(await opensslVerify(place, place.dave)).toMatchObject({
        code: 2,
        stderr: expect.stringMatching(opensslSays),
      })
      const checked = await check(place.file)
      expect(checked).toMatchObject({ code: 0, stdout: expect.stringMatching(checkSays) })
      expect(checked.stdout).toMatch(/warning: .*crl\.pem: .*CN=partner.*; its clients are refused\n/)

      const running = await gateway(place.yaml)
      expect(running.log().find(({ msg }) => msg === 'key material')).toMatchObject({
        level: 'warn',
        warning: expect.stringMatching(checkSays),
      })
      expect(await nbdinfo(running.port('tls'), place.alice)).toMatchObject({ code: 0 })
      expect((await nbdinfo(running.port('tls'), place.dave)).code).not.toBe(0)
      expect(await running.waitForLog(({ msg }) => msg === 'tls failed')).toMatchObject({ reason })
    },
  )

  test('that ends within a week is a warning of check and of the log', async ({ dir, pki, gateway }) => {
    const place = await ground(dir, pki, [emptyCrl(LAB, { days: 6 }), emptyCrl(PARTNER)])
    const says = /crl\.pem: the CRL of CN=lab ends on .*; then all its clients are refused/
    expect(await check(place.file)).toMatchObject({ code: 0, stdout: expect.stringMatching(says) })
    const running = await gateway(place.yaml)
    expect(running.log().find(({ msg }) => msg === 'key material')?.warning).toMatch(says)
  })

  test('of another authority is named, and is a problem where it is all there is', async ({ dir, pki }) => {
    const stranger = emptyCrl(mintAuthority({ name: 'stranger' }))
    const beside = await ground(dir, pki, [emptyCrl(LAB), emptyCrl(PARTNER), stranger])
    const says = /the CRL of CN=stranger is of no authority in .*ca\.pem/
    expect(await check(beside.file)).toMatchObject({ code: 0, stdout: expect.stringMatching(says) })
    await writeFile(beside.crl, stranger)
    const alone = await check(beside.file)
    expect(alone).toMatchObject({ code: 2, stderr: expect.stringMatching(says) })
    expect(alone.stderr).toMatch(
      /check\.yaml:\d+:\d+: .*crl\.pem: there is no CRL of CN=lab; there is no CRL of CN=part/,
    )
  })

  test('that has expired for everybody is a problem of check', async ({ dir, pki }) => {
    const old = { now: daysAgo(40), days: 30 }
    const place = await ground(dir, pki, [emptyCrl(LAB, old), emptyCrl(PARTNER, old)])
    expect(await check(place.file)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('no client could come in'),
    })
  })
})
