import type {
  CertificateFacts,
  ExportFacts,
  GatewayFacts,
  LeaseFacts,
  Managed,
  OverlayFacts,
  OverlayRemoval,
  ReadinessCheck,
  ReloadResult,
  SessionExplanation,
  SessionFacts,
  WaitingFacts,
} from '../admin/managed.ts'
import type { Gateway } from '../gateway/gateway.ts'
import type { GatewayEvent } from '../observe/event-feed.ts'
import type { MetricFamily } from '../observe/metric-family.ts'
import { RecentRefusals } from '../observe/recent-refusals.ts'
import type { RegionFacts } from '../observe/region-counts.ts'
import type { ExportTraffic } from '../observe/session-meters.ts'
import type { Telemetry } from '../observe/telemetry.ts'
import type { Ending } from './ending.ts'
import type { Reloading } from './reloading.ts'

/** What the admin socket is about; the socket is there before the doors are. */
export class Running implements Managed {
  readonly #reloading: Reloading
  readonly #telemetry: Telemetry
  readonly #refusals: RecentRefusals
  #gateway: Gateway | undefined
  #ending: Ending | undefined

  constructor(reloading: Reloading, telemetry: Telemetry) {
    this.#reloading = reloading
    this.#telemetry = telemetry
    this.#refusals = new RecentRefusals(telemetry.events)
  }

  begin(gateway: Gateway, ending: Ending): void {
    this.#gateway = gateway
    this.#ending = ending
  }

  async sessions(): Promise<readonly SessionFacts[]> {
    return (await this.#gateway?.sessions()) ?? []
  }

  async explain(id: number): Promise<SessionExplanation | undefined> {
    return await this.#gateway?.explain(id)
  }

  async kick(id: number): Promise<boolean> {
    return (await this.#gateway?.kick(id)) ?? false
  }

  leases(): readonly LeaseFacts[] {
    return this.#gateway?.leases() ?? []
  }

  async releaseLease(name: string, holder: string | undefined): Promise<number> {
    return (await this.#gateway?.releaseLease(name, holder)) ?? 0
  }

  async overlays(): Promise<readonly OverlayFacts[]> {
    return (await this.#gateway?.overlays.list()) ?? []
  }

  async removeOverlay(id: string): Promise<OverlayRemoval> {
    return (await this.#gateway?.overlays.remove(id)) ?? 'unknown'
  }

  async keepOverlay(id: string, isKept: boolean): Promise<boolean> {
    return (await this.#gateway?.overlays.keep(id, isKept)) ?? false
  }

  async exports(): Promise<readonly ExportFacts[]> {
    return (await this.#gateway?.exports()) ?? []
  }

  async metrics(): Promise<readonly (readonly MetricFamily[])[]> {
    return (await this.#gateway?.metrics()) ?? []
  }

  async readiness(names?: readonly string[]): Promise<readonly ReadinessCheck[]> {
    const starting = [{ name: 'doors', problems: ['the gateway is still starting'] }] as const
    return (await this.#gateway?.readiness(names)) ?? starting
  }

  about(): GatewayFacts | undefined {
    return this.#gateway?.about()
  }

  async traffic(): Promise<readonly ExportTraffic[]> {
    return (await this.#gateway?.traffic()) ?? []
  }

  async regions(name: string): Promise<RegionFacts | undefined> {
    return await this.#gateway?.regions(name)
  }

  waiting(): readonly WaitingFacts[] {
    return this.#gateway?.waiting() ?? []
  }

  refusals(): readonly GatewayEvent[] {
    return this.#refusals.list()
  }

  certificates(): readonly CertificateFacts[] {
    return this.#gateway?.certificates() ?? []
  }

  listen(listener: (event: GatewayEvent) => void): () => void {
    return this.#telemetry.events.listen(listener)
  }

  reload(): Promise<ReloadResult> {
    return this.#reloading.request('the admin socket')
  }

  drain(): void {
    this.#ending?.drain('the admin socket')
  }
}
