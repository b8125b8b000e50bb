// The architecture of src/, as a table. A new arrow, package or exception is a change of this table, made on purpose.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'

/** Top to bottom: a file imports from its own layer and from those below. A layer is a folder of src/, or src/main.ts. */
const LAYERS = [
  'main',
  'cli',
  'gateway',
  'preparing',
  'admin',
  'doors',
  'negotiation',
  'relay',
  'policy',
  'sharing',
  'upstreams',
  'ssh',
  'pki',
  'config',
  'observe',
  'stream',
  'platform',
  'protocol',
]

/** npm package → the layers that may know it. A package that is not here may be imported nowhere. */
const PACKAGE_OWNERS: Readonly<Record<string, readonly string[]>> = {
  '@hono/node-server': ['admin'],
  '@hono/zod-openapi': ['admin'],
  commander: ['cli'],
  hono: ['admin'],
  koffi: ['platform'],
  'node-forge': ['pki'],
  pino: ['observe'],
  'prom-client': ['observe'],
  ssh2: ['doors', 'upstreams', 'ssh'],
  uplot: ['admin'],
  yaml: ['config'],
  zod: ['config', 'cli', 'sharing', 'preparing'],
}

/** Layers without I/O and clock → the modules of the outside world that they may use all the same. */
const PURE_LAYERS: Readonly<Record<string, readonly string[]>> = {
  policy: ['node:net'], // BlockList and isIP; sockets are ruled out below
  protocol: [],
}
const OUTSIDE_MODULES = /^node:(fs|fs\/promises|net|tls|child_process|dgram|http|https|timers|timers\/promises)$/
const IMPURE_CODE =
  /\basync\b|\bawait\b|\bDate\.now\b|\bnew Date\(\)|\bperformance\.now\b|\b(?:createServer|createConnection|new Socket)\b/

/** Only the command line prints. */
const PRINTING_LAYERS = ['cli']
const PRINTING_CODE = /\bprocess\.stdout\b|\bconsole\./

/** What runs in a browser: there is no Node there, and elsewhere no document. Of the rest of the program it knows types alone. */
const PAGE = 'admin/page/'
const PAGE_PACKAGES = ['uplot']
const BROWSER_CODE =
  /\b(?:window|localStorage|sessionStorage)\.|\bdocument\.(?:body|documentElement|createElement|getElementById)\b/
/** What a peer has sent must never become markup or code. */
const MARKUP_CODE = /\b(?:innerHTML|outerHTML|insertAdjacentHTML|eval|Function|srcdoc)\b|\bdocument\.write/

const MAX_LINES = 400

interface SourceFile {
  /** Relative to src/, such as `relay/framer.ts`. */
  readonly path: string
  readonly text: string
}

const STRING_OR_COMMENT = /'(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`|\/\*[\s\S]*?\*\/|\/\/.*/g

function withoutComments(text: string): string {
  return text.replace(STRING_OR_COMMENT, piece => (piece.startsWith('/') ? ' ' : piece))
}

/** What is left to search for words; templates stay, they have code in them. */
function withoutCommentsAndStrings(text: string): string {
  return text.replace(STRING_OR_COMMENT, piece => (piece.startsWith('`') ? piece : ' '))
}

/** The specifiers of static imports and re-exports, of import() and of require(), of types too. */
function importsOf(text: string): string[] {
  const code = withoutComments(text)
  const patterns = [
    /^\s*(?:import|export)\b[^'"`;=]*?\bfrom\s*['"]([^'"]+)['"]/gm,
    /^\s*import\s*['"]([^'"]+)['"]/gm,
    /\b(?:import|require)\(\s*['"`]([^'"`]+)['"`]/g,
  ]
  return patterns.flatMap(pattern => [...code.matchAll(pattern)].map(match => match[1] ?? ''))
}

function layerOf(path: string): string {
  return path === 'main.ts' ? 'main' : (path.split('/')[0] ?? '')
}

/** The file in src/ that a relative import names. */
function targetOf(file: SourceFile, specifier: string): string {
  return join(dirname(file.path), specifier)
}

const isRelative = (specifier: string) => specifier.startsWith('.')

/** Files that belong to no layer, and imports that go up or out of src/. */
function layerViolations(files: readonly SourceFile[]): string[] {
  return files.flatMap(file => {
    const from = LAYERS.indexOf(layerOf(file.path))
    if (from < 0) return [`${file.path} is in no layer`]
    const targets = importsOf(file.text)
      .filter(isRelative)
      .map(specifier => targetOf(file, specifier))
    return targets.filter(target => LAYERS.indexOf(layerOf(target)) < from).map(target => `${file.path} → ${target}`)
  })
}

/** Each cycle as the path that closes it. */
function cycles(files: readonly SourceFile[]): string[] {
  const imports = new Map(
    files.map(file => [
      file.path,
      importsOf(file.text)
        .filter(isRelative)
        .map(specifier => targetOf(file, specifier)),
    ]),
  )
  const found: string[] = []
  const done = new Set<string>()
  const visit = (path: string, trail: readonly string[]): void => {
    const start = trail.indexOf(path)
    if (start >= 0) found.push([...trail.slice(start), path].join(' → '))
    if (start >= 0 || done.has(path)) return
    for (const next of imports.get(path) ?? []) visit(next, [...trail, path])
    done.add(path)
  }
  for (const file of files) visit(file.path, [])
  return found
}

function packageViolations(files: readonly SourceFile[]): string[] {
  return files.flatMap(file =>
    importsOf(file.text)
      .filter(specifier => !isRelative(specifier) && !specifier.startsWith('node:'))
      .filter(specifier => {
        const name = specifier.split('/').slice(0, specifier.startsWith('@') ? 2 : 1)
        return PACKAGE_OWNERS[name.join('/')]?.includes(layerOf(file.path)) !== true
      })
      .map(specifier => `${file.path} → ${specifier}`),
  )
}

function purityViolations(files: readonly SourceFile[]): string[] {
  return files.flatMap(file => {
    const allowed = PURE_LAYERS[layerOf(file.path)]
    if (allowed === undefined) return []
    const outside = importsOf(file.text).filter(name => OUTSIDE_MODULES.test(name) && !allowed.includes(name))
    const words = IMPURE_CODE.exec(withoutCommentsAndStrings(file.text)) ?? []
    return [...outside, ...words].map(what => `${file.path}: ${what}`)
  })
}

/** What the page has of the program, the program of the page, and both of what is only for the other. */
function pageViolations(files: readonly SourceFile[]): string[] {
  return files.flatMap(({ path, text }) => {
    const code = withoutCommentsAndStrings(text)
    if (!path.startsWith(PAGE)) {
      const imports = importsOf(text).filter(name => name.includes('/page/'))
      return [...imports, ...(BROWSER_CODE.exec(code) ?? [])].map(what => `${path}: ${what}`)
    }
    const values = importsOf(text.replace(/^import type\b.*?\bfrom\b.*$/gms, ''))
    const foreign = values.filter(name => !name.startsWith('./') && !PAGE_PACKAGES.includes(name))
    return [...foreign, ...(MARKUP_CODE.exec(code) ?? [])].map(what => `${path}: ${what}`)
  })
}

/** Files outside `layers` whose code matches. */
function codeViolations(files: readonly SourceFile[], code: RegExp, layers: readonly string[]): string[] {
  return files
    .filter(file => !layers.includes(layerOf(file.path)) && code.test(withoutCommentsAndStrings(file.text)))
    .map(file => file.path)
}

const DEFAULT_EXPORT = /^\s*export\s+default\b|^\s*export\s*\{[^}]*\bas\s+default\b/m

function longFiles(files: readonly SourceFile[]): string[] {
  return files
    .map(file => ({ path: file.path, lines: file.text.trimEnd().split('\n').length }))
    .filter(({ lines }) => lines > MAX_LINES)
    .map(({ path, lines }) => `${path}: ${lines} lines`)
}

const root = fileURLToPath(new URL('../../src', import.meta.url))
const sources = readdirSync(root, { recursive: true, withFileTypes: true })
  .filter(entry => entry.isFile() && entry.name.endsWith('.ts'))
  .map(entry => join(entry.parentPath, entry.name))
  .map((file): SourceFile => ({ path: relative(root, file), text: readFileSync(file, 'utf8') }))

describe('src/', () => {
  it('has its entry and its imports in sight of these rules', () => {
    expect(sources.map(file => file.path)).toContain('main.ts')
    expect(sources.flatMap(file => importsOf(file.text)).length).toBeGreaterThan(sources.length)
  })

  it('imports go down the layers only', () => {
    expect(layerViolations(sources)).toEqual([])
  })

  it('has no cycles', () => {
    expect(cycles(sources)).toEqual([])
  })

  it('knows each npm package in its own layer only', () => {
    expect(packageViolations(sources)).toEqual([])
  })

  it('imports zod as `* as z`: the object `z` has all of it in tow, in what inetd starts too', () => {
    const whole = sources.filter(
      ({ path, text }) => layerOf(path) !== 'admin' && /import \{[^}]*\} from 'zod'/.test(text),
    )
    expect(whole.map(({ path }) => path)).toEqual([])
  })

  it('has pure layers without I/O, waiting and clock', () => {
    expect(purityViolations(sources)).toEqual([])
  })

  it('prints on the command line only', () => {
    expect(codeViolations(sources, PRINTING_CODE, PRINTING_LAYERS)).toEqual([])
  })

  it('keeps the page and the program apart', () => {
    expect(sources.some(({ path }) => path.startsWith(PAGE))).toBe(true)
    expect(pageViolations(sources)).toEqual([])
  })

  it('has no default exports', () => {
    expect(codeViolations(sources, DEFAULT_EXPORT, [])).toEqual([])
  })

  it(`has no file over ${MAX_LINES} lines`, () => {
    expect(longFiles(sources)).toEqual([])
  })
})

describe('the rules', () => {
  const file = (path: string, text: string): SourceFile => ({ path, text })

  it('see imports in every form, and none in comments', () => {
    const text = [
      "import { a } from './a.ts'",
      'import {\n  type B,\n  c,\n} from "../b/c.ts"',
      "import type { D } from 'd'",
      "import 'e'",
      "export { f } from './f.ts'",
      "const g = await import('g')",
      "const h = require('h')",
      "// import { x } from 'x'",
      "/** import { y } from 'y' */ const url = 'nbd://host' // import('z')",
      "export const from = Buffer.from('abc')",
    ].join('\n')
    expect(importsOf(text).sort()).toEqual(['../b/c.ts', './a.ts', './f.ts', 'd', 'e', 'g', 'h'])
  })

  it('refuse an import that goes up, leaves src/, or comes from nowhere', () => {
    const files = [
      file('relay/a.ts', "import '../gateway/b.ts'\nimport '../protocol/c.ts'\nimport './d.ts'"),
      file('protocol/c.ts', "import type { X } from '../../package.json'"),
      file('utils/e.ts', ''),
      file('other.ts', ''),
    ]
    expect(layerViolations(files)).toEqual([
      'relay/a.ts → gateway/b.ts',
      'protocol/c.ts → ../package.json',
      'utils/e.ts is in no layer',
      'other.ts is in no layer',
    ])
  })

  it('find cycles of any length, and not what is imported twice', () => {
    const diamond = [
      file('relay/a.ts', "import './b.ts'\nimport './c.ts'"),
      file('relay/b.ts', "import './d.ts'"),
      file('relay/c.ts', "import './d.ts'"),
    ]
    expect(cycles([...diamond, file('relay/d.ts', '')])).toEqual([])
    expect(cycles([...diamond, file('relay/d.ts', "import './a.ts'")])[0]).toBe(
      'relay/a.ts → relay/b.ts → relay/d.ts → relay/a.ts',
    )
    expect(cycles([file('relay/a.ts', "import './a.ts'")])).toEqual(['relay/a.ts → relay/a.ts'])
  })

  it('refuse a package outside its layer, and one without an owner', () => {
    const text = "import 'yaml'\nimport 'zod/v4'\nimport '@scope/name/deep'\nimport 'node:fs'"
    expect(packageViolations([file('config/a.ts', text)])).toEqual(['config/a.ts → @scope/name/deep'])
    expect(packageViolations([file('cli/a.ts', "import 'yaml'")])).toEqual(['cli/a.ts → yaml'])
  })

  it('refuse I/O and clocks in pure layers, in code and not in words', () => {
    const net = "import { isIP } from 'node:net'\n// await\nconst text = 'async'"
    expect(purityViolations([file('policy/a.ts', net), file('relay/a.ts', 'await 1')])).toEqual([])
    expect(purityViolations([file('protocol/a.ts', net)])).toEqual(['protocol/a.ts: node:net'])
    for (const code of ['await x', 'async () => {}', 'Date.now()', 'new Date()', "import 'node:fs/promises'"]) {
      expect(purityViolations([file('policy/a.ts', code)])).toHaveLength(1)
    }
  })

  it('refuse a page that knows the program, a program that knows the page, and markup of text', () => {
    const page = [
      file(
        'admin/page/a.ts',
        "import type { X } from '../managed.ts'\nimport uPlot from 'uplot'\nimport { b } from './b.ts'",
      ),
      file('admin/page/b.ts', "import { X } from '../managed.ts'\ndocument.body.append('innerHTML')"),
      file('admin/page/c.ts', "import { readFileSync } from 'node:fs'\nbody.innerHTML = text"),
      file('admin/d.ts', "import { b } from './page/b.ts'\nconst title = document.body.title"),
    ]
    expect(pageViolations(page)).toEqual([
      'admin/page/b.ts: ../managed.ts',
      'admin/page/c.ts: node:fs',
      'admin/page/c.ts: innerHTML',
      'admin/d.ts: ./page/b.ts',
      'admin/d.ts: document.body',
    ])
  })

  it('refuse prints, default exports and long files', () => {
    const print = [file('cli/a.ts', 'console.log(1)'), file('relay/a.ts', 'process.stdout.write("")')]
    expect(codeViolations(print, PRINTING_CODE, PRINTING_LAYERS)).toEqual(['relay/a.ts'])
    const defaults = [file('cli/a.ts', 'export default 1'), file('cli/b.ts', 'export { x as default }')]
    expect(codeViolations(defaults, DEFAULT_EXPORT, [])).toEqual(['cli/a.ts', 'cli/b.ts'])
    expect(longFiles([file('cli/a.ts', `${'\n'.repeat(400)}x`), file('cli/b.ts', 'x\n'.repeat(400))])).toEqual([
      'cli/a.ts: 401 lines',
    ])
  })
})
