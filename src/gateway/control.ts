/**
 * What a session asks of the rest of the gateway. One small interface, so that a session may run in another process
 * than the configuration: every answer is a promise and every argument plain data.
 */
import type { Config, ExportConfig, UpstreamConfig } from '../config/config.ts'
import type { ListEntry } from '../negotiation/host.ts'
import { compilePolicy } from '../policy/compile.ts'
import { type Decision, decide, type ExportPolicy } from '../policy/decide.ts'
import type { DoorKind, Identity } from '../policy/identity.ts'

/** Who asks, as policy sees it. */
export interface Asker {
  readonly identity: Identity
  readonly door: DoorKind
}

/** A grant, and what the session needs to carry it out. */
export type Granted = Extract<Decision, { kind: 'granted' }> & {
  readonly upstream: UpstreamConfig
  readonly description: string | undefined
}

/** A decision as a session gets it. */
export type Ruling = Granted | Extract<Decision, { kind: 'refused' }>

export interface Control {
  /** The exports that the asker may use, for LIST. */
  visible(asker: Asker): Promise<readonly ListEntry[]>

  /** Whether the asker may use an export, with which rights, by which rule. */
  decide(name: string, asker: Asker): Promise<Ruling>

  /** Takes one of an export's sessions; false when all are taken. Each yes is followed by one release. */
  acquire(name: string): Promise<boolean>
  release(name: string): void
}

/** The control plane in the same process as its sessions. */
export interface LocalControl extends Control {
  /** Rules and upstreams of another configuration, from now on. @throws Error for a rule that can not be compiled: nothing has changed then */
  replace(config: Config): void
}

interface Entry {
  readonly config: ExportConfig
  readonly policy: ExportPolicy
}

export function createControl(config: Config): LocalControl {
  let entries = compile(config)
  /** Sessions by export; a reload does not forget them. */
  const sessions = new Map<string, number>()
  const rule = (entry: Entry | undefined, asker: Asker): Decision => decide(entry?.policy, asker, Date.now())
  return {
    visible: async asker =>
      [...entries.values()]
        .filter(entry => rule(entry, asker).kind === 'granted')
        .map(({ config: { name, description } }) => ({ name, description })),
    decide: async (name, asker) => {
      const entry = entries.get(name)
      const decision = rule(entry, asker)
      if (decision.kind === 'refused') return decision
      if (entry === undefined) return { kind: 'refused', reason: 'no such export' }
      return { ...decision, upstream: entry.config.upstream, description: entry.config.description }
    },
    acquire: async name => {
      const entry = entries.get(name)
      const taken = sessions.get(name) ?? 0
      if (entry === undefined || taken >= (entry.config.limits.sessions ?? Number.POSITIVE_INFINITY)) return false
      sessions.set(name, taken + 1)
      return true
    },
    release: name => {
      const left = (sessions.get(name) ?? 0) - 1
      if (left > 0) sessions.set(name, left)
      else sessions.delete(name)
    },
    replace: next => {
      entries = compile(next)
    },
  }
}

function compile(config: Config): ReadonlyMap<string, Entry> {
  return new Map(config.exports.map(each => [each.name, { config: each, policy: compilePolicy(each) }]))
}
