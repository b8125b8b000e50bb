import type { BackendConfig, Config, DoorConfig, EtcdConfig, UpstreamConfig } from './config.ts'

/** The configuration itself and all files that it names to be read, absolute paths, each once. */
export function namedFiles(config: Config): readonly string[] {
  const upstreams = upstreamsOf(config).flatMap(ofUpstream)
  const files = [config.file, ...config.doors.flatMap(ofDoor), ...upstreams, ...ofEtcd(config.leases.etcd)]
  return [...new Set(files.filter(file => file !== undefined))]
}

/** Every upstream that the configuration names; what is made ready first is none. */
export function upstreamsOf({ exports, discoveries = [] }: Config): readonly UpstreamConfig[] {
  return [...exports.flatMap(({ upstream }) => standing(upstream)), ...discoveries.map(({ from }) => from)]
}

/** The upstreams that are reached as they stand, in the order that they are tried in; perhaps none. */
export function standing(upstream: BackendConfig): readonly UpstreamConfig[] {
  if (upstream.kind === 'ways') return upstream.ways
  return upstream.kind === 'spawn' || upstream.kind === 'overlay' ? [] : [upstream]
}

function ofDoor(door: DoorConfig): readonly (string | undefined)[] {
  if (door.kind === 'ssh') return [...door.hostKeys, door.authorizedKeys, door.userCa, door.revokedKeys]
  return door.kind === 'tls' ? [door.cert, door.key, door.clientCa, door.crl, door.psk] : []
}

function ofUpstream(upstream: UpstreamConfig): readonly (string | undefined)[] {
  if (upstream.kind === 'file') return []
  const { ca, cert, key, identity, knownHosts } = upstream
  return [ca, cert, key, identity, knownHosts]
}

function ofEtcd(etcd: EtcdConfig | undefined): readonly (string | undefined)[] {
  return etcd === undefined ? [] : [etcd.ca, etcd.cert, etcd.key, etcd.login?.passwordFile]
}
