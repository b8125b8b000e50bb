// Debian's kernel for the test with a real kernel client: downloaded as a package and unpacked in .work/kernel, nothing of
// it is installed. As a command (`npm run test:kernel`) it gets it, and the programs, where they are missing.
import { spawnSync } from 'node:child_process'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
} from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { aptGet, findProgram, isCi, kernelPackages, packages, providePrograms } from './programs.mjs'

/** Small, with the drivers of virtual machines. */
const PACKAGE = 'linux-image-cloud-amd64'
const DOWNLOAD_MS = 180_000

const folder = fileURLToPath(new URL('../../.work/kernel', import.meta.url))

/** The kernel that is there: its version, its image, and the folder that has its lib/modules; undefined if there is none. */
export function findKernel() {
  const modules = join(folder, 'lib/modules')
  const version = existsSync(modules) ? readdirSync(modules).sort().at(-1) : undefined
  const image = join(folder, 'boot', `vmlinuz-${version}`)
  return version !== undefined && existsSync(image) ? { version, image, root: folder } : undefined
}

/** Downloads it; what went wrong. */
function download() {
  const apt = findProgram('apt-get')
  if (apt === undefined || findProgram('dpkg-deb') === undefined) return 'this is no Debian'
  mkdirSync(join(folder, '..'), { recursive: true })
  const work = mkdtempSync(`${folder}-`)
  const log = join(work, 'log')
  try {
    const { stdout } = spawnSync('apt-cache', ['depends', PACKAGE], { encoding: 'utf8', timeout: DOWNLOAD_MS })
    const name = /Depends: (linux-image-\S+)/.exec(stdout)?.[1]
    if (name === undefined) return `apt-cache knows no ${PACKAGE}`
    const trouble = aptGet(['download', name], log, DOWNLOAD_MS, work)
    if (trouble !== undefined)
      return `apt-get download ${name} ${trouble}: ${readFileSync(log, 'utf8').trim().slice(-300)}`
    const file = readdirSync(work).find(each => each.endsWith('.deb'))
    const unpacked = join(work, 'unpacked')
    const { status, stderr } = spawnSync('dpkg-deb', ['-x', join(work, String(file)), unpacked], { encoding: 'utf8' })
    if (status !== 0) return `dpkg-deb: ${stderr.trim()}`
    rmSync(folder, { recursive: true, force: true })
    renameSync(unpacked, folder)
    return undefined
  } finally {
    rmSync(work, { recursive: true, force: true })
  }
}

function main() {
  const code = providePrograms({ ...packages, ...kernelPackages })
  if (code !== 0 || findKernel() !== undefined) return code
  console.log(`downloading ${PACKAGE}: a kernel for the test`)
  const trouble = download()
  if (trouble === undefined) return 0
  console.log(`no kernel: ${trouble}; its tests are skipped`)
  return isCi() ? 1 : 0
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url))
  process.exit(main())
