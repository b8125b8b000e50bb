// `npm run bench`: nbdgate beside its peers, all in front of one nbd-server disk, alternating in one run: TLS to the client
// (nbdkit, qemu-nbd, nbd-server's own without a hop), plain (nbdkit, haproxy), and tunnels (sshd, a pair of stunnels). Prints
// medians, spread and ratios, and writes .work/bench.json and .work/bench.svg.
//
//   npm run bench                   the running Node, and Node 24 if the CI has left one: about half an hour
//   npm run bench -- --quick        TLS alone, in a minute
//   npm run bench -- --only WORD    measures with this in their names; several: --only 'read, 1|depth 1'
//   npm run bench -- --group tls    one group
//   npm run bench -- --rounds 9 --mib 512 --node PATH
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { measuresOf } from './measures.mjs'
import { makeHome, otherNodes, startPeers } from './peers.mjs'
import { chart, print, WHAT_NOT_TO_CONCLUDE } from './report.mjs'
import { makePki, run, stopAll } from './tools.mjs'

const args = process.argv.slice(2)
const option = (name, fallback) => (args.includes(name) ? args[args.indexOf(name) + 1] : fallback)
const isQuick = args.includes('--quick')
const rounds = Number(option('--rounds', isQuick ? '3' : '5'))
const mib = Number(option('--mib', isQuick ? '256' : '512'))
const only = option('--only', '').split('|')
const group = option('--group', '')

const dir = mkdtempSync(join(tmpdir(), 'nbdgate-bench-'))
// The disk lies in memory where it can: the kernel's writeback to a real one stalls writers for seconds.
const memory = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : dir, 'nbdgate-bench-'))
try {
  await main()
} finally {
  await stopAll()
  for (const each of [memory, dir]) rmSync(each, { recursive: true, force: true })
}

async function main() {
  const path = option('--node', process.execPath)
  const version = (await run([path, '--version'])).stdout.trim()
  const name = `Node ${version.slice(1).split('.')[0]}`
  const nodes = [{ name, path }, ...(isQuick || args.includes('--node') ? [] : otherNodes())]
  const certs = await makePki(dir)
  const disk = join(memory, 'disk.img')
  await run(['sh', '-c', `head -c ${mib}M /dev/urandom > ${disk}`])
  const client = join(certs, 'alice')
  const home = await makeHome(dir, client)
  const scene = { dir, disk, certs, client, home, nodes, isQuick, mib, seconds: isQuick ? 1 : 2 }
  const title = `nbdgate and its peers: ${mib} MiB, medians of ${rounds} rounds, ${name} ${version}`
  console.log(title)
  const peers = await startPeers(scene)
  const found = []
  for (const measure of measuresOf(scene)) {
    if (!only.some(word => measure.name.includes(word))) continue
    for (const each of measure.groups.filter(one => group === '' || one === group)) {
      const among = Object.entries(peers).filter(([, peer]) => peer.group === each)
      const samples = await sample(measure, among)
      const named = { ...measure, name: measure.groups.length > 1 ? `${each}: ${measure.name}` : measure.name }
      const ours = among.find(([peer]) => peer.startsWith(`nbdgate, ${name}`) && !peer.includes('workers'))
      print(named, samples, ours?.[0] ?? among[0][0])
      found.push({ ...named, group: each, samples })
      // Each time: what is found is not lost with what comes after it.
      mkdirSync('.work', { recursive: true })
      writeFileSync('.work/bench.json', `${JSON.stringify({ title, found }, null, 2)}\n`)
      writeFileSync('.work/bench.svg', chart(title, found))
    }
  }
  console.log(WHAT_NOT_TO_CONCLUDE)
}

/** Rounds over all peers, in turn; the first one only warms up. */
async function sample(measure, peers) {
  const samples = Object.fromEntries(peers.map(([peer]) => [peer, []]))
  const last = measure.once === true ? 0 : rounds - 1
  for (let round = measure.once === true ? 0 : -1; round <= last; round++) {
    for (const [name, peer] of peers) {
      const value = await measure.run(peer).catch(error => {
        throw new Error(`${measure.name}: ${name}`, { cause: error })
      })
      if (round >= 0) samples[name].push(value)
    }
  }
  return samples
}
