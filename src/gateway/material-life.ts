import type { CertificateFacts } from '../admin/managed.ts'
import type { Config } from '../config/config.ts'
import { upstreamsOf } from '../config/named-files.ts'
import { gauge, type MetricFamily } from '../observe/metric-family.ts'
import { certificatesEndMs, crlsEndMs } from '../pki/expiry.ts'

/** The same notice that the log gives of a revocation list. */
const SOON_MS = 7 * 86_400_000

/** A file of key material, and when it ends (milliseconds of the epoch); undefined: it can not be read. */
export interface MaterialLife {
  readonly use: CertificateFacts['use']
  readonly file: string
  readonly endsMs: number | undefined
}

/** Each certificate and revocation list that a configuration names, once for each use. Never throws. */
export function materialLives(config: Config, nowMs: number): readonly MaterialLife[] {
  const lives = new Map<string, MaterialLife>()
  const look = (use: MaterialLife['use'], file: string | undefined): void => {
    if (file === undefined || lives.has(`${use} ${file}`)) return
    lives.set(`${use} ${file}`, { use, file, endsMs: endOf(use, file, nowMs) })
  }
  for (const door of config.doors) {
    if (door.kind !== 'tls') continue
    look('server', door.cert)
    look('client-ca', door.clientCa)
    look('crl', door.crl)
  }
  for (const upstream of upstreamsOf(config)) {
    if (!('tls' in upstream) || !upstream.tls) continue
    look('upstream-client', upstream.cert)
    look('upstream-ca', upstream.ca)
  }
  return [...lives.values()]
}

function endOf(use: MaterialLife['use'], file: string, nowMs: number): number | undefined {
  try {
    return use === 'crl' ? crlsEndMs(file, nowMs) : certificatesEndMs(file, nowMs)
  } catch {
    return undefined
  }
}

/** The same for those who run the gateway. */
export function certificateFacts(lives: readonly MaterialLife[], nowMs: number): readonly CertificateFacts[] {
  return lives.map(({ use, file, endsMs }) => ({
    use,
    file,
    ends: endsMs === undefined || !Number.isFinite(endsMs) ? undefined : new Date(endsMs).toISOString(),
    state: endsMs === undefined ? 'unreadable' : endsMs < nowMs ? 'over' : endsMs - nowMs < SOON_MS ? 'soon' : 'good',
  }))
}

/** When certificates and revocation lists end, and which of them do within a week. */
export function materialFamilies(lives: readonly MaterialLife[], nowMs: number): readonly MetricFamily[] {
  const known = lives.flatMap(({ use, file, endsMs }) =>
    endsMs === undefined ? [] : [{ labels: { use, file }, endsMs }],
  )
  return [
    gauge(
      'nbdgate_key_material_expiry_timestamp_seconds',
      'When a certificate, an authority or a revocation list ends: the first of a file.',
      known.map(({ labels, endsMs }) => [endsMs / 1000, labels]),
    ),
    gauge(
      'nbdgate_key_material_expires_soon',
      'Whether it ends within a week, or has ended.',
      known.map(({ labels, endsMs }) => [Number(endsMs - nowMs < SOON_MS), labels]),
    ),
    gauge(
      'nbdgate_key_material_readable',
      'Whether the file can be read.',
      lives.map(({ use, file, endsMs }) => [Number(endsMs !== undefined), { use, file }]),
    ),
  ]
}
