import { once } from 'node:events'
import { existsSync, readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { z } from 'zod'
import { run } from './process.ts'

const MODULES = fileURLToPath(new URL('../../node_modules/', import.meta.url))
const manifest = z.looseObject({ name: z.string(), version: z.string() })

/** A registry of npm on loopback; what it has is what is installed here. */
export interface Registry {
  readonly url: string
  close(): void
}

/** Serves the packages of our own node_modules, packed into `dir` when they are asked for, so that `npm install` needs no network. */
export async function startRegistry(dir: string): Promise<Registry> {
  let url = ''
  const server = createServer((request, response) => {
    const path = decodeURIComponent(request.url ?? '').slice(1)
    const name = path.replace(/^tarball\//, '')
    const file = join(MODULES, name, 'package.json')
    if (name.includes('..') || !existsSync(file)) {
      response.writeHead(404).end('{}')
      return
    }
    if (path === name) {
      const facts = manifest.parse(JSON.parse(readFileSync(file, 'utf8')))
      const entry = { ...facts, dist: { tarball: `${url}tarball/${name}` } }
      response.end(
        JSON.stringify({ name, 'dist-tags': { latest: facts.version }, versions: { [facts.version]: entry } }),
      )
      return
    }
    const tarball = join(dir, `${name.replace('/', '+')}.tgz`)
    const pack = ['tar', '-czf', tarball, '--transform=s,^\\.,package,', '-C', join(MODULES, name), '.']
    run(pack).then(
      () => response.end(readFileSync(tarball)),
      () => response.writeHead(500).end(),
    )
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  url = `http://127.0.0.1:${typeof address === 'object' ? address?.port : 0}/`
  return { url, close: () => void server.close() }
}
