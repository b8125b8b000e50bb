// A file system goes in and out through the gateway as its users would move it, and every byte is where it was.
import { truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect } from 'vitest'
import { ext4Image, sha256 } from '../support/disk.ts'
import { test as base } from '../support/fixtures.ts'
import { run, runOk } from '../support/process.ts'
import { requires } from '../support/requires.ts'
import { allow, config, nbdsUri, tlsDoor } from './configs.ts'

const MIB = 1024 * 1024
const IMAGE_MIB = 32
const FILES = 200

type Serve = (file: string) => Promise<string>

/** `serve` by the name of the server: puts a file behind a server of its own, and gives the upstream's URI. */
const test = base.extend('servers', async ({ nbdServer, nbdkit, qemuNbd }): Promise<Record<string, Serve>> => {
  return {
    'nbd-server': async file => (await nbdServer({ exports: { disk: { file, flush: true, fua: true } } })).uri('disk'),
    nbdkit: async file => `nbd+unix:///?socket=${await nbdkit('file', file)}`,
    'qemu-nbd': async file => `nbd+unix:///?socket=${await qemuNbd(file)}`,
  }
})

/** A gateway with export `disk`: the image, or as much nothing to store it in. */
const served = test.extend('scene', async ({ dir, pki, servers, gateway }) => {
  return async (server: string, rights: 'read' | 'write') => {
    const image = await ext4Image(dir, IMAGE_MIB, FILES)
    const blank = join(dir, 'blank.img')
    await writeFile(blank, '')
    await truncate(blank, IMAGE_MIB * MIB)
    const serve = servers[server]
    if (serve === undefined) throw new Error(`no server ${server}`)
    // Not both at once: qemu-nbd locks what it serves.
    const upstream = await serve(rights === 'read' ? image : blank)
    const exports = [{ name: 'disk', upstream, allow: [allow('alice', rights)] }]
    const port = (await gateway(config([tlsDoor(pki)], exports))).port('tls')
    return { image, blank, port, digest: await sha256(image) }
  }
})

/** Arguments that make qemu's programs come in with these certificates, and the image of an export for them. */
const credentials = (leaf: { readonly dir: string }) => [
  '--object',
  `tls-creds-x509,id=tls0,dir=${leaf.dir},endpoint=client`,
]
const qemuImage = (port: number) => `driver=nbd,host=localhost,port=${port},export=disk,tls-creds=tls0`

requires(
  'nbd-server',
  'nbdkit',
  'qemu-nbd',
  'nbdcopy',
  'qemu-img',
  'mke2fs',
  'e2fsck',
)('a file system over TLS', () => {
  describe.each(['nbd-server', 'nbdkit', 'qemu-nbd'])('with %s behind', server => {
    served('nbdcopy fetches it byte by byte', async ({ scene, dir, pki }) => {
      const { port, digest } = await scene(server, 'read')
      const copy = join(dir, 'copy.img')
      await runOk(['nbdcopy', nbdsUri(port, 'disk', pki.alice), copy])
      expect(await sha256(copy)).toBe(digest)
      expect(await run(['e2fsck', '-fn', copy])).toMatchObject({ code: 0 })
    })

    served('nbdcopy stores it byte by byte', async ({ scene, pki }) => {
      const { image, blank, port, digest } = await scene(server, 'write')
      await runOk(['nbdcopy', '--flush', image, nbdsUri(port, 'disk', pki.alice)])
      expect(await sha256(blank)).toBe(digest)
      expect(await run(['e2fsck', '-fn', blank])).toMatchObject({ code: 0 })
    })

    served('qemu-img convert fetches it, and compare finds no difference', async ({ scene, dir, pki }) => {
      const { port, digest } = await scene(server, 'read')
      const copy = join(dir, 'copy.img')
      const remote = qemuImage(port)
      await runOk(['qemu-img', 'convert', ...credentials(pki.alice), '--image-opts', remote, '-O', 'raw', copy])
      expect(await sha256(copy)).toBe(digest)
      const local = `driver=raw,file.driver=file,file.filename=${copy}`
      const compare = ['qemu-img', 'compare', ...credentials(pki.alice), '--image-opts', remote, local]
      expect(await runOk(compare)).toContain('Images are identical')
    })

    served('qemu-img convert stores it, and compare finds no difference', async ({ scene, pki }) => {
      const { image, blank, port, digest } = await scene(server, 'write')
      const remote = qemuImage(port)
      const target = ['--target-image-opts', remote]
      await runOk(['qemu-img', 'convert', '-n', ...credentials(pki.alice), '-f', 'raw', image, ...target])
      expect(await sha256(blank)).toBe(digest)
      const local = `driver=raw,file.driver=file,file.filename=${image}`
      const compare = ['qemu-img', 'compare', ...credentials(pki.alice), '--image-opts', remote, local]
      expect(await runOk(compare)).toContain('Images are identical')
      expect(await run(['e2fsck', '-fn', blank])).toMatchObject({ code: 0 })
    })
  })
})
