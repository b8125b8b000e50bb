/**
 * What a session asks of the rest of the gateway. One small interface, so that a session may run in another process
 * than the configuration: every answer is a promise and every argument plain data.
 */
import type { Config, ExportConfig, UpstreamConfig, UseLimits } from '../config/config.ts'
import type { ListEntry } from '../negotiation/host.ts'
import { compileGroups, compilePolicy } from '../policy/compile.ts'
import { type Decision, decide, type ExportPolicy } from '../policy/decide.ts'
import { type Explanation, explain } from '../policy/explain.ts'
import { type DoorKind, type Identity, keyOf } from '../policy/identity.ts'
import type { Rate } from './rates.ts'
import { Tally } from './tally.ts'

/** Who asks, as policy sees it. */
export interface Asker {
  readonly identity: Identity
  readonly door: DoorKind
}

/** A grant, and what the session needs to carry it out. */
export type Granted = Extract<Decision, { kind: 'granted' }> & {
  readonly upstream: UpstreamConfig
  readonly description: string | undefined
  /** What all the traffic of the export, and that of the asker in it, is limited to. */
  readonly rates: readonly Rate[]
}

/** A decision as a session gets it. */
export type Ruling = Granted | Extract<Decision, { kind: 'refused' }>

export interface Control {
  /** The exports that the asker may use, for LIST. */
  visible(asker: Asker): Promise<readonly ListEntry[]>

  /** Whether the asker may use an export, with which rights, by which rule. */
  decide(name: string, asker: Asker): Promise<Ruling>

  /** The same decision, with what each rule had to do with it. */
  explain(name: string, asker: Asker): Promise<Explanation>

  /** Takes one of the sessions that the export and the asker may have; false when all are taken. Each yes is followed by one release. */
  acquire(name: string, asker: Asker): Promise<boolean>
  release(name: string, asker: Asker): void
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
  const sessions = new Tally()
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
      const { upstream, description, limits } = entry.config
      const rates = [rateOf(exportKey(name), limits), rateOf(askerKey(name, asker), decision.limits)].flat()
      return { ...decision, upstream, description, rates }
    },
    explain: async (name, asker) => explain(entries.get(name)?.policy, asker, Date.now()),
    acquire: async (name, asker) => {
      const entry = entries.get(name)
      const decision = rule(entry, asker)
      if (entry === undefined || decision.kind === 'refused') return false
      return sessions.add([
        [exportKey(name), entry.config.limits.sessions],
        [askerKey(name, asker), decision.limits?.sessions],
      ])
    },
    release: (name, asker) => sessions.remove([exportKey(name), askerKey(name, asker)]),
    replace: next => {
      entries = compile(next)
    },
  }
}

const exportKey = (name: string): string => `export ${name}`
const askerKey = (name: string, { identity }: Asker): string => `${keyOf(identity)} export ${name}`

function rateOf(key: string, limits: UseLimits | undefined): readonly Rate[] {
  const { read, write, iops } = limits ?? {}
  return read === undefined && write === undefined && iops === undefined ? [] : [{ key, read, write, iops }]
}

function compile(config: Config): ReadonlyMap<string, Entry> {
  const groups = compileGroups(config.groups)
  return new Map(config.exports.map(each => [each.name, { config: each, policy: compilePolicy(each, groups) }]))
}
