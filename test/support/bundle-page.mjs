// Bundles the page that the gateway serves at `/`: its script and style, with the plots in them, and what is copied as it is.
import { copyFileSync, mkdirSync, rmSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

const root = fileURLToPath(new URL('../../', import.meta.url))

/** Writes the page into `OUTDIR/page`, beside the bundle that looks for it there. */
export async function bundlePage(outdir) {
  const folder = `${root}${outdir}/page`
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  await build({
    absWorkingDir: root,
    entryPoints: { page: 'src/admin/page/main.ts' },
    outdir: folder,
    bundle: true,
    platform: 'browser',
    target: 'es2022',
    format: 'esm',
    minify: true,
    legalComments: 'none',
    logLevel: 'warning',
  })
  await build({
    absWorkingDir: root,
    entryPoints: { page: 'src/admin/page/page.css' },
    outdir: folder,
    bundle: true,
    target: 'es2022',
    minify: true,
    logLevel: 'warning',
  })
  for (const name of ['index.html', 'favicon.svg']) copyFileSync(`${root}src/admin/page/${name}`, `${folder}/${name}`)
  // What its licence asks for.
  copyFileSync(`${root}node_modules/uplot/LICENSE`, `${folder}/uplot.LICENSE.txt`)
}
