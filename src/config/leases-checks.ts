import { asList } from './raw.ts'
import type { PathProblem } from './schema-problems.ts'

const PATH = ['leases']
const ETCD_KEYS = ['ca', 'cert', 'key', 'user', 'password-file', 'ttl', 'prefix', 'name']

/** What keys of `leases` need of each other. */
export function leasesProblems(map: Readonly<Record<string, unknown>> | undefined): readonly PathProblem[] {
  if (map === undefined) return []
  const named = ETCD_KEYS.filter(key => map[key] !== undefined)
  const about = (key: string, message: string): PathProblem => ({ path: [...PATH, key], at: 'key', message })
  if (map.etcd === undefined) return named.map(key => about(key, `\`${key}\` needs \`etcd\``))
  const urls = (typeof map.etcd === 'string' ? [map.etcd] : asList(map.etcd)).filter(url => typeof url === 'string')
  const isPlain = urls.some(url => url.startsWith('http:'))
  const problems: PathProblem[] = []
  if (isPlain && urls.some(url => url.startsWith('https:'))) {
    problems.push({
      path: [...PATH, 'etcd'],
      message: 'some members with TLS and some without: one of them is a mistake',
    })
  }
  for (const key of isPlain ? ['ca', 'cert', 'key'].filter(key => map[key] !== undefined) : []) {
    problems.push(about(key, `\`${key}\` means nothing without TLS: use https://`))
  }
  if ((map.cert === undefined) !== (map.key === undefined)) {
    problems.push({ path: PATH, message: '`cert` and `key` come together' })
  }
  if ((map.user === undefined) !== (map['password-file'] === undefined)) {
    problems.push({ path: PATH, message: '`user` and `password-file` come together' })
  }
  return problems
}
