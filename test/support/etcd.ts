/** etcd clusters of members on the loopback. */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { runOk, type Started, start } from './process.ts'
import { freePort } from './wait.ts'

/** How a cluster is started. */
export interface EtcdOptions {
  /** Default 1. */
  readonly members?: number
  /** Certificates: clients have to show one of the same authority. */
  readonly tls?: { readonly cert: string; readonly key: string; readonly ca: string }
  /** Further arguments of each member. */
  readonly args?: readonly string[]
}

/** One member. */
export interface EtcdMember {
  readonly url: string
  readonly pid: () => number
  /** Starts it again, with what it had, after it was killed. */
  restart(): Promise<void>
  kill(signal: NodeJS.Signals): void
  waitForExit(): Promise<unknown>
}

/** A cluster that answers. */
export interface EtcdCluster {
  readonly urls: readonly string[]
  readonly members: readonly EtcdMember[]
  /** The member that leads now; undefined while none does. */
  leader(): Promise<EtcdMember | undefined>
  stop(): Promise<void>
}

interface Plan {
  readonly name: string
  readonly url: string
  readonly peer: string
}

/** Somebody else may take a port before etcd does. */
const PORT_ATTEMPTS = 3

/** Elections in less than a second, so that tests need not wait for seconds; writes that need not survive the machine. */
const QUICK = ['--heartbeat-interval', '60', '--election-timeout', '600', '--unsafe-no-fsync', '--logger', 'zap']

/** Starts a cluster with its data in `dir`, named after `name`. Rejects with its log. */
export async function startEtcd(dir: string, name: string, options: EtcdOptions = {}): Promise<EtcdCluster> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await startCluster(dir, `${name}${attempt === 1 ? '' : `-again${attempt}`}`, options)
    } catch (error) {
      if (attempt === PORT_ATTEMPTS || !String(error).includes('address already in use')) throw error
    }
  }
}

/** Rejects, with all its members stopped, if one of them does not start. */
async function startCluster(dir: string, name: string, options: EtcdOptions): Promise<EtcdCluster> {
  const scheme = options.tls === undefined ? 'http' : 'https'
  const plans: Plan[] = []
  for (let index = 0; index < (options.members ?? 1); index++) {
    const url = `${scheme}://127.0.0.1:${await freePort()}`
    plans.push({ name: `${name}-${index}`, url, peer: `http://127.0.0.1:${await freePort()}` })
  }
  const started = await Promise.allSettled(plans.map(plan => startMember(dir, plan, plans, options)))
  const members = started.flatMap(each => (each.status === 'fulfilled' ? each.value : []))
  const failed = started.find(each => each.status === 'rejected')
  if (failed !== undefined) {
    for (const member of members) member.kill('SIGKILL')
    await Promise.all(members.map(member => member.waitForExit()))
    throw failed.reason
  }
  const leader = async (): Promise<EtcdMember | undefined> => {
    for (const member of members) {
      const status = await statusOf(member.url).catch(() => undefined)
      if (status !== undefined && status.leader === status.member) return member
    }
    return undefined
  }
  return {
    urls: plans.map(({ url }) => url),
    members,
    leader,
    stop: async () => {
      for (const member of members) member.kill('SIGKILL')
      await Promise.all(members.map(member => member.waitForExit()))
    },
  }
}

async function startMember(
  dir: string,
  plan: Plan,
  all: readonly Plan[],
  { tls, args }: EtcdOptions,
): Promise<EtcdMember> {
  const secure =
    tls === undefined
      ? []
      : ['--cert-file', tls.cert, '--key-file', tls.key, '--trusted-ca-file', tls.ca, '--client-cert-auth']
  const cluster = all.map(({ name, peer }) => `${name}=${peer}`).join(',')
  const argv = [
    'etcd',
    ...['--name', plan.name, '--data-dir', join(dir, `${plan.name}.etcd`)],
    ...['--listen-client-urls', plan.url, '--advertise-client-urls', plan.url],
    ...['--listen-peer-urls', plan.peer, '--initial-advertise-peer-urls', plan.peer],
    ...['--initial-cluster', cluster, '--initial-cluster-token', plan.name.replace(/-\d+$/, '')],
    ...QUICK,
    ...secure,
    ...(args ?? []),
  ]
  let log = ''
  const launch = async (): Promise<Started> => {
    log = ''
    return await start(argv, {
      cwd: dir,
      onStderr: text => {
        log += text
      },
      ready: () => log.includes('serving client traffic'),
    })
  }
  let member = await launch()
  return {
    url: plan.url,
    pid: () => member.pid,
    restart: async () => {
      member = await launch()
    },
    kill: signal => member.kill(signal),
    waitForExit: async () => await member.waitForExit(),
  }
}

const status = z.object({ leader: z.string(), header: z.object({ member_id: z.string() }) })

async function statusOf(url: string): Promise<{ readonly leader: string; readonly member: string }> {
  const question = { method: 'POST', body: '{}', signal: AbortSignal.timeout(1000) }
  const { leader, header } = status.parse(await (await fetch(`${url}/v3/maintenance/status`, question)).json())
  return { leader, member: header.member_id }
}

/**
 * A certificate for members. Good for servers and for clients: etcd's JSON gateway dials etcd with it, and with
 * `--client-cert-auth` is turned away as anybody else would be.
 */
export async function etcdCertificate(
  dir: string,
  ca: { readonly cert: string; readonly key: string },
): Promise<{ readonly cert: string; readonly key: string; readonly ca: string }> {
  const file = (end: string): string => join(dir, `etcd.${end}`)
  const [cert, key, request, extensions] = [file('pem'), file('key'), file('csr'), file('ext')]
  await writeFile(extensions, 'subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n')
  const subject = ['-subj', '/CN=etcd', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes']
  await runOk(['openssl', 'req', '-new', ...subject, '-keyout', key, '-out', request])
  const issuer = ['-CA', ca.cert, '-CAkey', ca.key, '-set_serial', '77', '-days', '2']
  await runOk(['openssl', 'x509', '-req', '-in', request, '-out', cert, ...issuer, '-extfile', extensions])
  return { cert, key, ca: ca.cert }
}
