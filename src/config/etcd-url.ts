import { printable } from '../protocol/strings.ts'
import { parseHost, parsePort } from './endpoint.ts'
import { type Parsed, parsed, unparsed } from './parsed.ts'

const FORM = /^(https?):\/\/([^/?#@]+):(\d+)\/?$/

/** Reads `https://10.0.0.5:2379`, the address of one member of an etcd cluster; without a slash at its end. */
export function parseEtcdUrl(text: string): Parsed<string> {
  const [, scheme, host = '', port = ''] = FORM.exec(text) ?? []
  if (scheme === undefined) return unparsed(`${JSON.stringify(printable(text))} is not https://HOST:PORT`)
  const parsedHost = parseHost(host)
  if (!parsedHost.ok) return parsedHost
  if (parsePort(port) === undefined || port === '0') return unparsed(`${JSON.stringify(printable(port))} is not a port`)
  return parsed(`${scheme}://${host}:${Number(port)}`)
}
