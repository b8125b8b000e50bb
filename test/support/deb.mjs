// Makes the Debian package: `npm run deb [FOLDER]`, into .work/ without one. It holds the bundle, the native packages that
// stay outside of it with all that they need, manual pages, completion, examples, and the units of config/systemd.
import { execFileSync, spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { basename, dirname, join, resolve } from 'node:path'
import { gzipSync } from 'node:zlib'
import { native } from './native.mjs'

const root = new URL('../../', import.meta.url).pathname
const { version, engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const MAINTAINER = 'nbdgate maintainers <maintainers@nbdgate.org>'
const LIB = 'usr/lib/nbdgate'

const capture = (program, ...args) => execFileSync(program, args, { encoding: 'utf8', timeout: 240_000 })
const architecture = capture('dpkg', '--print-architecture').trim()

/** Optional packages of ssh2 that only help to compile it. */
const compiling = ['cpu-features', 'nan']

/** A package, and all that it needs that is installed here. */
function withDependencies(name, found = new Set()) {
  const folder = join(root, 'node_modules', name)
  if (found.has(name) || compiling.includes(name) || !existsSync(folder)) return found
  found.add(name)
  const { dependencies = {}, optionalDependencies = {} } = JSON.parse(
    readFileSync(join(folder, 'package.json'), 'utf8'),
  )
  for (const each of Object.keys({ ...dependencies, ...optionalDependencies })) withDependencies(each, found)
  return found
}

/** What of a package runs; the folders are sources, tests, documentation, and what is for another C library. */
const isCode = name =>
  /^[^.].*\.(c?js|json|node)$|^LICENSE/.test(name) && !/^(cnoke|install|tests|trampolines)\./.test(name)
const idle = /\/(test|examples|doc|util|vendor|obj\.target|musl_\w+)(\/|$)/

function copyPackage(stage, name) {
  const from = join(root, 'node_modules', name)
  const isNeeded = source =>
    !idle.test(source.slice(from.length)) && (statSync(source).isDirectory() || isCode(basename(source)))
  cpSync(from, join(stage, LIB, 'node_modules', name), { recursive: true, filter: isNeeded })
}

/** Writes a file of the package, with its folders. */
function put(stage, path, content, mode = 0o644) {
  const file = join(stage, path)
  mkdirSync(dirname(file), { recursive: true })
  writeFileSync(file, content)
  chmodSync(file, mode)
}

const read = path => readFileSync(join(root, path))
const gzip = content => gzipSync(content, { level: 9 })

function putProgram(stage) {
  mkdirSync(join(stage, LIB, 'dist'), { recursive: true })
  for (const name of readdirSync(join(root, 'dist')).filter(each => /\.(js|txt)$/.test(each))) {
    put(stage, `${LIB}/dist/${name}`, read(`dist/${name}`))
  }
  for (const name of readdirSync(join(root, 'dist/page')))
    put(stage, `${LIB}/dist/page/${name}`, read(`dist/page/${name}`))
  const main = read('dist/main.js')
    .toString('utf8')
    .replace(/^#!.*\n/, '#!/usr/bin/node\n')
  put(stage, `${LIB}/dist/main.js`, main, 0o755)
  put(stage, `${LIB}/package.json`, JSON.stringify({ name: 'nbdgate', version, type: 'module' }))
  for (const name of new Set(native.flatMap(each => [...withDependencies(each)]))) copyPackage(stage, name)
  mkdirSync(join(stage, 'usr/bin'), { recursive: true })
  symlinkSync('../lib/nbdgate/dist/main.js', join(stage, 'usr/bin/nbdgate'))
}

function putDocuments(stage) {
  put(stage, 'usr/share/man/man1/nbdgate.1.gz', gzip(read('config/man/nbdgate.1')))
  put(stage, 'usr/share/man/man5/nbdgate.yaml.5.gz', gzip(read('config/man/nbdgate.yaml.5')))
  const completion = shell => capture(process.execPath, join(root, 'dist/main.js'), 'completion', shell)
  put(stage, 'usr/share/bash-completion/completions/nbdgate', completion('bash'))
  put(stage, 'usr/share/zsh/vendor-completions/_nbdgate', completion('zsh'))
  put(stage, 'usr/share/fish/vendor_completions.d/nbdgate.fish', completion('fish'))
  const doc = 'usr/share/doc/nbdgate'
  put(stage, `${doc}/copyright`, read('config/debian/copyright'))
  put(stage, `${doc}/README.md.gz`, gzip(read('README.md')))
  put(stage, `${doc}/NEWS.md.gz`, gzip(read('CHANGELOG.md')))
  const date = capture('date', '-R', '-u', ...sourceDate()).trim()
  const change = `nbdgate (${version}) unstable; urgency=medium\n\n  * Version ${version}; NEWS.md has its changes.\n\n -- ${MAINTAINER}  ${date}\n`
  put(stage, `${doc}/changelog.gz`, gzip(change))
  for (const name of readdirSync(join(root, 'config')).filter(each => /\.(yaml|json)$/.test(each))) {
    put(stage, `${doc}/examples/${name}`, read(`config/${name}`))
  }
}

/** The date of the release where a builder sets one (reproducible-builds.org), else that of the changes. */
function sourceDate() {
  const seconds = process.env.SOURCE_DATE_EPOCH ?? Math.floor(statSync(join(root, 'CHANGELOG.md')).mtimeMs / 1000)
  return ['-d', `@${seconds}`]
}

function putUnits(stage) {
  const folder = join(root, 'config/systemd')
  for (const name of existsSync(folder) ? readdirSync(folder) : []) {
    if (/\.(service|socket|timer|target)$/.test(name))
      put(stage, `usr/lib/systemd/system/${name}`, read(`config/systemd/${name}`))
  }
  mkdirSync(join(stage, 'etc/nbdgate'), { recursive: true })
}

/** What the filter has left of folders without code. */
function removeEmptyFolders(folder) {
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    if (entry.isDirectory()) removeEmptyFolders(join(folder, entry.name))
  }
  if (readdirSync(folder).length === 0) rmSync(folder, { recursive: true })
}

/** All regular files below a folder. */
function filesIn(folder) {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter(entry => entry.isFile())
    .map(entry => join(entry.parentPath, entry.name))
}

/** Debug symbols away; the newest version of the C library that any of them asks for. */
function finishBinaries(stage) {
  const binaries = filesIn(stage).filter(file => file.endsWith('.node'))
  let newest = [2, 17]
  for (const file of binaries) {
    if (spawnSync('strip', ['--strip-unneeded', file]).status !== 0) console.error(`${basename(file)}: not stripped`)
    for (const [, major, minor] of readFileSync(file, 'latin1').matchAll(/GLIBC_(\d+)\.(\d+)/g)) {
      const wanted = [Number(major), Number(minor)]
      if (wanted[0] > newest[0] || (wanted[0] === newest[0] && wanted[1] > newest[1])) newest = wanted
    }
  }
  return newest.join('.')
}

function control(stage, libc) {
  const bytes = filesIn(stage).reduce((sum, file) => sum + statSync(file).size, 0)
  return `Package: nbdgate
Version: ${version}
Architecture: ${architecture}
Maintainer: ${MAINTAINER}
Installed-Size: ${Math.ceil(bytes / 1024)}
Depends: nodejs (${engines.node.replace('>=', '>= ')}), libc6 (>= ${libc}), libgcc-s1, libstdc++6, adduser
Recommends: libnbd-bin
Suggests: nbd-server, openssh-client
Section: net
Priority: optional
Description: secure gateway in front of an NBD server
 nbdgate stands in front of an unmodified nbd-server, nbdkit or qemu-nbd, ends
 TLS or SSH, names the visitor by certificate or key, decides for each export
 what that visitor may do, and relays the rest.
`
}

function main(target) {
  const stage = mkdtempSync(join(tmpdir(), 'nbdgate-deb-'))
  try {
    chmodSync(stage, 0o755)
    putProgram(stage)
    putDocuments(stage)
    putUnits(stage)
    removeEmptyFolders(join(stage, LIB))
    const libc = finishBinaries(stage)
    for (const entry of readdirSync(stage, { recursive: true, withFileTypes: true })) {
      const path = join(entry.parentPath, entry.name)
      if (entry.isDirectory()) chmodSync(path, 0o755)
      else if (entry.isFile() && !path.endsWith('dist/main.js')) chmodSync(path, 0o644)
    }
    const sums = filesIn(stage).map(
      file => `${createHash('md5').update(readFileSync(file)).digest('hex')}  ${file.slice(stage.length + 1)}\n`,
    )
    put(stage, 'DEBIAN/control', control(stage, libc))
    put(stage, 'DEBIAN/md5sums', sums.sort().join(''))
    for (const script of ['postinst', 'prerm', 'postrm'])
      put(stage, `DEBIAN/${script}`, read(`config/debian/${script}`), 0o755)
    mkdirSync(target, { recursive: true })
    const file = join(target, `nbdgate_${version}_${architecture}.deb`)
    capture('dpkg-deb', '--root-owner-group', '-Zxz', '-z1', '--build', stage, file)
    console.log(file)
  } finally {
    rmSync(stage, { recursive: true, force: true })
  }
}

main(resolve(process.argv[2] ?? join(root, '.work')))
