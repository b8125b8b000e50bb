import { spawnSync } from 'node:child_process'
import { expect, it } from 'vitest'

const MODULE = new URL('../../../src/platform/young-generation.ts', import.meta.url).pathname

/** How large V8's young generation becomes, in MiB, while many objects live at once; held at `mib` unless that is 0. */
function largest(mib: number, bundle: string): number {
  const program = `${bundle}
    if (${mib} > 0) holdYoungGeneration(${mib} * 1024 * 1024)
    const v8 = require('node:v8')
    const live = []
    let most = 0
    const round = n => {
      for (let i = 0; i < 2000; i++) live[(n * 2000 + i) % 200000] = { i, list: [i] }
      most = Math.max(most, v8.getHeapSpaceStatistics().find(space => space.space_name === 'new_space').space_size)
      if (n < 1500) setImmediate(round, n + 1)
      else console.log(most / 1024 / 1024)
    }
    round(0)`
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8', timeout: 8000 })
  expect(stderr).toBe('')
  return Number(stdout)
}

it('holds the young generation, which else grows to twice as much and more', async () => {
  const { build } = await import('esbuild')
  const built = await build({ entryPoints: [MODULE], format: 'cjs', platform: 'node', write: false })
  const text = built.outputFiles[0]?.text ?? ''
  const bundle = `const { holdYoungGeneration } = (module => { ${text}; return module.exports })({})`
  const free = largest(0, bundle)
  expect(free).toBeGreaterThanOrEqual(32)
  expect(largest(8, bundle)).toBeLessThanOrEqual(free / 2)
})
