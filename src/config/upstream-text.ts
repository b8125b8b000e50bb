import type { UpstreamConfig } from './config.ts'

/** Where an upstream is, for people: an NBD URI with nothing secret in it, or `file:PATH`. */
export function upstreamText(upstream: UpstreamConfig): string {
  switch (upstream.kind) {
    case 'file':
      return `file:${upstream.path}`
    case 'unix':
      return `${upstream.tls ? 'nbds' : 'nbd'}+unix:///${encodeURI(upstream.export)}?socket=${upstream.path}`
    case 'tcp':
      return `${upstream.tls ? 'nbds' : 'nbd'}://${placeText(upstream)}/${encodeURI(upstream.export)}`
    case 'ssh':
      return `nbd+ssh://${placeText(upstream)}/${encodeURI(upstream.export)}`
    default:
      return upstream satisfies never
  }
}

function placeText({ host, port }: { readonly host: string; readonly port: number }): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
