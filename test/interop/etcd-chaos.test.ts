// Gateways and members of etcd die, hang and lose each other while clients write: no two sessions ever write at once, and
// nothing that was promised is lost. `npm run chaos` does it 200 times; CHAOS_RUNS, CHAOS_SEED and CHAOS_WORLDS say otherwise.
import { readFile, rm } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { expect, it } from 'vitest'
import { chaosRun, type RunReport } from '../chaos/etcd-run.ts'
import { contentProblems, startWorld, TTL_MS } from '../chaos/world.ts'
import { bundle } from '../support/bundle.mjs'
import { requires } from '../support/requires.ts'
import { makeTempFolder, removeTempFolder } from '../support/temp.ts'

const RUNS = Number(process.env.CHAOS_RUNS ?? 6)
const SEED = Number(process.env.CHAOS_SEED ?? 1)
const WORLDS = Number(process.env.CHAOS_WORLDS ?? 2)
const RUN_BOUND_MS = 120_000
const UNFENCED_RUNS = 3
/** Longer than others take to take over. */
const LONG_PAUSE_MS = 3 * TTL_MS

/** Runs of one world, one after the other. */
async function worldOf(runs: number, seed: number): Promise<readonly RunReport[]> {
  const dir = await makeTempFolder()
  const world = await startWorld(dir, runs)
  const reports: RunReport[] = []
  try {
    for (let run = 0; run < runs; run++) {
      const report = await chaosRun(world, run, seed + run)
      reports.push({ ...report, run: seed + run })
    }
    expect(await contentProblems(world, dir)).toEqual([])
    return reports
  } catch (error) {
    for (const { running } of world.places) console.error(running.stderr())
    throw error
  } finally {
    await world.stop()
    await removeTempFolder(dir)
  }
}

requires(
  'etcd',
  'nbdkit',
  'nbdcopy',
)('leases in etcd', () => {
  it('let no two write at once, whatever dies', {
    timeout: (RUNS / WORLDS) * RUN_BOUND_MS + RUN_BOUND_MS,
  }, async () => {
    const each = Math.ceil(RUNS / WORLDS)
    const reports = (
      await Promise.all(Array.from({ length: WORLDS }, (_, world) => worldOf(each, SEED + world * each)))
    ).flat()
    if (process.env.CHAOS_RUNS !== undefined) console.log(summary(reports))
    expect(
      reports.flatMap(({ run, mishap, violations }) => violations.map(each => `${run} (${mishap}): ${each}`)),
    ).toEqual([])
    expect(reports).toHaveLength(each * WORLDS)
  })

  it('are seen to fail by the same record where a gateway has no fence', { timeout: 3 * RUN_BOUND_MS }, async () => {
    const violations = await stopGateways([UNHEEDED, UNWATCHED])
    expect(violations.join('\n')).toMatch(/^\d\/\d+ wrote its \d+ at \d+ after \d\/\d+/m)
  })

  it('let no two write where the kernel alone keeps them, and no question', { timeout: 3 * RUN_BOUND_MS }, async () => {
    expect(await stopGateways([UNHEEDED])).toEqual([])
  })
})

/** A part of the fence, and what is put in its place. */
type Change = readonly [part: string, instead: string]
/** A gateway that is told of the end of its leases and does not heed it. */
const UNHEEDED: Change = ['#pass(): void {', '#pass(): void {\n    if (this !== undefined) return']
const UNWATCHED: Change = ['this.#watchdog.set(this.#term.goneMs)', '']

/**
 * What the record says of gateways with a changed fence that are stopped for long, and go on with what their clients had sent
 * while others write already; of one run after the other until it says something.
 */
async function stopGateways(changes: readonly Change[]): Promise<readonly string[]> {
  const outdir = `.work/unfenced-${process.pid}`
  const dir = await makeTempFolder()
  const world = await startWorld(dir, UNFENCED_RUNS, await buildChanged(outdir, changes))
  const violations: string[] = []
  try {
    for (let run = 0; run < UNFENCED_RUNS && violations.length === 0; run++) {
      const report = await chaosRun(world, run, SEED + run, { mishap: 'stop the gateway', pauseMs: LONG_PAUSE_MS })
      violations.push(...report.violations)
    }
    return violations
  } finally {
    await world.stop()
    await removeTempFolder(dir)
    await rm(outdir, { recursive: true })
  }
}

async function buildChanged(outdir: string, changes: readonly Change[]): Promise<string> {
  let isChanged = false
  await bundle(outdir, [
    {
      name: 'another fence',
      setup: build =>
        build.onLoad({ filter: /\/sharing\/fence\.ts$/ }, async ({ path }) => {
          const text = await readFile(path, 'utf8')
          isChanged = changes.every(([part]) => text.includes(part))
          return { contents: changes.reduce((all, [part, instead]) => all.replace(part, instead), text), loader: 'ts' }
        }),
    },
  ])
  expect(isChanged).toBe(true)
  return fileURLToPath(new URL(`../../${outdir}/main.js`, import.meta.url))
}

/** The figures of many runs, by mishap. */
function summary(reports: readonly RunReport[]): string {
  const lines = [...new Set(reports.map(({ mishap }) => mishap))].sort().map(mishap => {
    const of = reports.filter(report => report.mishap === mishap)
    const times = of.flatMap(({ takeoverMs }) => takeoverMs ?? []).sort((a, b) => a - b)
    const takeover =
      times.length === 0 ? '' : `, takeover median ${ms(times[times.length >> 1])} max ${ms(times.at(-1))}`
    const violations = of.flatMap(report => report.violations).length
    return `${mishap}: ${of.length} runs, ${violations} violations${takeover}`
  })
  const writes = reports.reduce((sum, report) => sum + report.writes, 0)
  return [`${reports.length} runs, ${writes} writes`, ...lines].join('\n')
}

const ms = (value = 0): string => `${Math.round(value)} ms`
