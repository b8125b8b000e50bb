import type { Config } from '../config/config.ts'
import { upstreamsOf } from '../config/named-files.ts'
import type { Log } from '../observe/log.ts'
import { loadClientMaterial, loadServerMaterial } from '../pki/material.ts'

const DAY_MS = 86_400_000

/**
 * Key material ages while a gateway runs. Looks at its files once a day and logs, once each, what was not so at start: a
 * certificate or a revocation list that ends soon (a warning), or has ended (an error). Returns what ends the watch.
 */
export function watchMaterial(config: () => Config, log: Log): () => void {
  const said = new Set(findings(config()).map(({ text }) => text))
  const look = (): void => {
    for (const { level, text } of findings(config())) {
      if (said.has(text)) continue
      said.add(text)
      log[level]({ warning: text }, 'key material')
    }
  }
  const timer = setInterval(look, DAY_MS)
  timer.unref()
  return () => clearInterval(timer)
}

/** What can not be used now of the key material, and what soon can not. */
export interface Finding {
  readonly level: 'warn' | 'error'
  readonly text: string
}

/** Looks at all key material that a configuration names. Never throws. */
export function findings(config: Config): readonly Finding[] {
  const doors = config.doors.flatMap(door => (door.kind === 'tls' ? attempt(() => loadServerMaterial(door)) : []))
  const upstreams = upstreamsOf(config).flatMap(upstream =>
    upstream.kind !== 'file' && upstream.tls ? attempt(() => loadClientMaterial(upstream)) : [],
  )
  return [...doors, ...upstreams]
}

function attempt(load: () => { readonly warnings: readonly string[] }): readonly Finding[] {
  try {
    return load().warnings.map(text => ({ level: 'warn', text }))
  } catch (error) {
    // Whatever it is: a timer that throws would end the gateway, and with it every session.
    return [{ level: 'error', text: error instanceof Error ? error.message : String(error) }]
  }
}
