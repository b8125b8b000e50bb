// What is handed out: the npm tarball installed by npm, the Debian package taken apart by dpkg-deb and judged by lintian,
// the manual pages and the Containerfile judged by their linters.
import { readFileSync } from 'node:fs'
import { mkdir, readdir, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { validate } from 'dockerfile-utils'
import { describe, expect, it, vi } from 'vitest'
import { VERSION } from '../../src/observe/version.ts'
import { test as base } from '../support/fixtures.ts'
import { run, runOk, start } from '../support/process.ts'
import { startRegistry } from '../support/registry.ts'
import { requires } from '../support/requires.ts'
import { makeTempFolder, removeTempFolder } from '../support/temp.ts'
import { waitFor } from '../support/wait.ts'

const ROOT = fileURLToPath(new URL('../../', import.meta.url))
const PACK_MS = 120_000
const PAGE = ['favicon.svg', 'index.html', 'page.css', 'page.js', 'uplot.LICENSE.txt']
// A package is made, and judged by a Perl program that starts slowly.
vi.setConfig({ testTimeout: 2 * PACK_MS })

const test = base
  /** The package, and what is in it. */
  .extend('deb', { scope: 'file' }, async ({}, { onCleanup }) => {
    const dir = await makeTempFolder()
    onCleanup(() => removeTempFolder(dir))
    const [file = ''] = (
      await runOk([process.execPath, join(ROOT, 'test/support/deb.mjs'), dir], { timeoutMs: PACK_MS })
    ).split('\n')
    const tree = join(dir, 'tree')
    await runOk(['dpkg-deb', '-x', file, tree])
    return { file, tree }
  })
  /** A folder with nothing but what `npm install TARBALL` has put there. */
  .extend('installed', { scope: 'file' }, async ({}, { onCleanup }) => {
    const dir = await makeTempFolder()
    const registry = await startRegistry(dir)
    onCleanup(async () => {
      registry.close()
      await removeTempFolder(dir)
    })
    const env = { HOME: dir, npm_config_cache: join(dir, 'cache'), npm_config_registry: registry.url }
    await runOk(['npm', 'pack', '--ignore-scripts', '--silent', '--pack-destination', dir, ROOT], {
      env,
      timeoutMs: PACK_MS,
    })
    const folder = join(dir, 'empty')
    await mkdir(folder)
    await writeFile(join(folder, 'package.json'), '{ "private": true }')
    const install = [
      'npm',
      'install',
      '--no-audit',
      '--no-fund',
      '--ignore-scripts',
      join(dir, `nbdgate-${VERSION}.tgz`),
    ]
    await runOk(install, { cwd: folder, env, timeoutMs: PACK_MS })
    return { folder, env }
  })

requires('dpkg-deb', 'lintian')('the Debian package', () => {
  test('has no error by lintian', async ({ deb, dir }) => {
    const { stdout } = await run(['lintian', '--allow-root', '--tag-display-limit', '0', deb.file], {
      timeoutMs: PACK_MS,
      env: { HOME: dir },
    })
    expect(stdout.split('\n').filter(line => line.startsWith('E:'))).toEqual([])
  })

  test('needs the Node that package.json wants', async ({ deb }) => {
    expect(await runOk(['dpkg-deb', '-f', deb.file, 'Depends'])).toMatch(/^nodejs \(>= 20\.19\), libc6 \(>= 2\.\d+\)/)
  })

  test('runs from where it lies, with its native packages', async ({ deb, dir }) => {
    const main = join(deb.tree, 'usr/lib/nbdgate/dist/main.js')
    expect(await runOk([process.execPath, main, '--version'])).toContain(VERSION)
    const told = await runOk([process.execPath, main, 'doctor'], { cwd: dir })
    expect(told).toContain('koffi is there')
    // ssh2's cipher is compiled for one Node; the others go without, and say so.
    expect(told).toMatch(/: ssh: ssh2 has (its|no) native cipher/)
    expect((await stat(main)).mode & 0o777).toBe(0o755)
    expect(readFileSync(main, 'utf8')).toMatch(/^#!\/usr\/bin\/node\n/)
    const page = await readdir(join(deb.tree, 'usr/lib/nbdgate/dist/page'))
    expect(page.toSorted()).toEqual(PAGE)
  })

  test('brings manual pages, completion, examples and a folder for the configuration', async ({ deb }) => {
    const has = async (folder: string) => (await readdir(join(deb.tree, folder))).toSorted()
    expect(await has('usr/share/man/man1')).toEqual(['nbdgate.1.gz'])
    expect(await has('usr/share/man/man5')).toEqual(['nbdgate.yaml.5.gz'])
    expect(await has('usr/share/bash-completion/completions')).toEqual(['nbdgate'])
    expect(await has('usr/share/zsh/vendor-completions')).toEqual(['_nbdgate'])
    expect(await has('usr/share/fish/vendor_completions.d')).toEqual(['nbdgate.fish'])
    expect(await has('usr/share/doc/nbdgate/examples')).toContain('internet.yaml')
    expect(await has('etc')).toEqual(['nbdgate'])
  })
})

describe('the npm tarball', () => {
  test('is a program that npx runs, from an otherwise empty folder', async ({ installed }) => {
    const { folder, env } = installed
    const told = await runOk(['npx', '--no-install', 'nbdgate', '--version'], { cwd: folder, env })
    expect(told).toContain(VERSION)
    expect(await readdir(join(folder, 'node_modules/nbdgate/config/man'))).toContain('nbdgate.1')
    expect((await readdir(join(folder, 'node_modules/nbdgate/dist/page'))).toSorted()).toEqual(PAGE)
  })

  test('shows the demo', async ({ installed, dir }) => {
    const { folder } = installed
    const main = join(folder, 'node_modules/.bin/nbdgate')
    const demo = await start([process.execPath, main, 'demo'], {
      cwd: folder,
      env: { TMPDIR: dir },
      ready: () => true,
    })
    try {
      const uriOf = () => /nbd:\/\/127\.0\.0\.1:\d+\/disk/.exec(demo.stdout())?.[0]
      await waitFor('the demo', () => uriOf() !== undefined, { describe: demo.stderr })
      expect(await runOk([process.execPath, main, 'probe', uriOf() ?? ''])).toContain('size: 67108864 bytes')
      const page = await fetch(/http:\/\/127\.0\.0\.1:\d+\//.exec(demo.stdout())?.[0] ?? '')
      expect([page.status, await page.text()]).toEqual([200, expect.stringContaining('<title>nbdgate</title>')])
    } finally {
      await demo.stop()
    }
  })
})

requires('mandoc')('the manual pages', () => {
  it.each(['nbdgate.1', 'nbdgate.yaml.5'])('%s has nothing that mandoc would mend', async page => {
    const { code, stdout, stderr } = await run(['mandoc', '-T', 'lint', '-W', 'style', join(ROOT, 'config/man', page)])
    expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '', stderr: '' })
  })
})

describe('the Containerfile', () => {
  const text = readFileSync(join(ROOT, 'config/container/Containerfile'), 'utf8')

  it('has no error, and no warning', () => {
    expect(validate(text).map(({ message }) => message)).toEqual([])
    expect(validate('FROM a\nRUNN b\n')).toHaveLength(1)
  })

  it('copies only what .dockerignore lets through, and does not run as root', () => {
    const ignored = readFileSync(join(ROOT, '.dockerignore'), 'utf8')
    for (const needed of ['package.json', 'package-lock.json', 'src', 'test/support/*.mjs']) {
      expect(ignored).toContain(`!${needed}\n`)
    }
    expect(text).toMatch(/^USER nbdgate$/m)
  })
})
