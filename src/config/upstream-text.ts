import type { BackendConfig } from './config.ts'

/** Where an upstream is, for people: an NBD URI with nothing secret in it, `file:PATH`, or `spawn:PROGRAM`. */
export function upstreamText(upstream: BackendConfig): string {
  switch (upstream.kind) {
    case 'file':
      return `file:${upstream.path}`
    case 'unix':
      return `${upstream.tls ? 'nbds' : 'nbd'}+unix:///${encodeURI(upstream.export)}?socket=${upstream.path}`
    case 'tcp':
      return `${upstream.tls ? 'nbds' : 'nbd'}://${placeText(upstream)}/${encodeURI(upstream.export)}`
    case 'ssh':
      return `nbd+ssh://${placeText(upstream)}/${encodeURI(upstream.export)}`
    case 'spawn':
      // Its arguments may be anything.
      return `spawn:${upstream.argv[0] ?? ''}`
    case 'overlay':
      return 'file:{overlay}'
    case 'ways':
      return upstream.ways.map(upstreamText).join(', ')
    default:
      return upstream satisfies never
  }
}

function placeText({ host, port }: { readonly host: string; readonly port: number }): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
