/** What PROXY headers say, in either direction. */

/** One end of a connection. */
export interface IpEndpoint {
  /** Without brackets; IPv6 as RFC 5952 has it. */
  readonly address: string
  readonly port: number
}

/** Both ends of a connection, as the one who was dialled sees them. */
export interface Endpoints {
  readonly source: IpEndpoint
  readonly destination: IpEndpoint
}

/** `own`: the balancer's own connection (a health check), or one that it can not describe: its real ends count. */
export type ProxyHeader = { readonly kind: 'own' } | ({ readonly kind: 'client' } & Endpoints)

/** A header, and how many bytes it takes of what was given. */
export interface DecodedProxyHeader {
  readonly header: ProxyHeader
  readonly sizeBytes: number
}

/** What is told of TLS with a client. */
export interface ProxiedTls {
  /** `TLSv1.3`. */
  readonly version: string
  /** OpenSSL's name of the suite. */
  readonly cipher: string
  /** A certificate that was verified; its common name if it has one. */
  readonly certificate?: { readonly commonName: string | undefined } | undefined
}

/** A client as an upstream is told of it; without `endpoints` (a Unix socket) there is nothing to tell but TLS. */
export interface ProxiedClient {
  readonly endpoints?: Endpoints | undefined
  readonly tls?: ProxiedTls | undefined
}
