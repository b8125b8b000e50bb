/** The real Prometheus, scraping one gateway on the loopback once a second. */
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as z from 'zod'
import { type Started, start } from './process.ts'
import { freePort } from './wait.ts'

/** A time series as an instant query answers it. */
export interface Sample {
  readonly metric: Readonly<Record<string, string>>
  readonly value: number
}

/** A Prometheus that runs. */
export interface Prometheus {
  readonly process: Started
  /** What an expression says now. Rejects with Prometheus' words if it does not parse or can not be evaluated. */
  query(expr: string): Promise<readonly Sample[]>
  /** The names of all metrics that it has ever scraped, its own series of the scrape too. */
  metricNames(): Promise<ReadonlySet<string>>
  /** The rules that it has loaded, and whether their last evaluation went well. */
  rules(): Promise<readonly { readonly name: string; readonly health: string }[]>
}

const PORT_ATTEMPTS = 5

const vector = z.object({
  data: z.object({
    result: z.array(z.object({ metric: z.record(z.string(), z.string()), value: z.tuple([z.number(), z.string()]) })),
  }),
})
const scalar = z.object({
  data: z.object({ resultType: z.literal('scalar'), result: z.tuple([z.number(), z.string()]) }),
})
const names = z.object({ data: z.array(z.string()) })
const groups = z.object({
  data: z.object({ groups: z.array(z.object({ rules: z.array(z.object({ name: z.string(), health: z.string() })) })) }),
})

/** Starts it with its data in `DIR/prometheus`, and these files of rules. Rejects with what it printed. */
export async function startPrometheus(dir: string, target: string, rules: readonly string[]): Promise<Prometheus> {
  const [home, file] = [join(dir, 'prometheus'), join(dir, 'prometheus.yml')]
  await mkdir(home)
  const config = {
    global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
    rule_files: rules,
    scrape_configs: [{ job_name: 'nbdgate', static_configs: [{ targets: [target] }] }],
  }
  await writeFile(file, JSON.stringify(config))
  for (let attempt = 1; ; attempt++) {
    const base = `http://127.0.0.1:${await freePort()}`
    const words = ['prometheus', `--config.file=${file}`, `--storage.tsdb.path=${home}`]
    try {
      const process = await start([...words, `--web.listen-address=${base.slice('http://'.length)}`], {
        cwd: home,
        ready: async () => (await fetch(`${base}/-/ready`).catch(() => undefined))?.ok === true,
      })
      return { process, ...asking(base) }
    } catch (error) {
      // Somebody else may have taken the port in between.
      if (attempt === PORT_ATTEMPTS || !String(error).includes('address already in use')) throw error
    }
  }
}

function asking(base: string): Omit<Prometheus, 'process'> {
  const get = async (path: string): Promise<unknown> => {
    const response = await fetch(`${base}/api/v1/${path}`)
    if (!response.ok) throw new Error(`${path}: ${await response.text()}`)
    return await response.json()
  }
  return {
    query: async expr => {
      const answer = await get(`query?query=${encodeURIComponent(expr)}`)
      const single = scalar.safeParse(answer)
      if (single.success) return [{ metric: {}, value: Number(single.data.data.result[1]) }]
      return vector.parse(answer).data.result.map(({ metric, value: [, text] }) => ({ metric, value: Number(text) }))
    },
    metricNames: async () => new Set(names.parse(await get('label/__name__/values')).data),
    rules: async () => groups.parse(await get('rules?type=alert')).data.groups.flatMap(group => group.rules),
  }
}
