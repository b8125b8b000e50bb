// Prints what the benchmark found, and draws it.
import { median } from './tools.mjs'

/** A line for each peer: median, spread (largest by smallest), and how we stand beside it: above 1 we are ahead. */
export function print({ name, unit, better }, samples, ours) {
  console.log(`\n${name} (${unit})`)
  const mine = median(samples[ours])
  for (const [peer, list] of Object.entries(samples)) {
    const value = median(list)
    const ratio = better === 'less' ? value / mine : mine / value
    const spread = list.length > 1 ? `spread ${(Math.max(...list) / Math.min(...list)).toFixed(2)}` : ''
    const beside = peer === ours ? '' : `${ratio.toFixed(2)} ×`
    console.log(`  ${peer.padEnd(30)} ${figure(value).padStart(9)}  ${spread.padEnd(12)} ${beside}`)
  }
}

export const WHAT_NOT_TO_CONCLUDE = `
Ratios say how ${'`'}nbdgate${'`'} on the running Node, in one process, stands beside the peer in this run: above 1 it is ahead. What not to conclude:
absolute times mean nothing on a shared machine, and ratios of two runs are not comparable. Client, gateway and server share
the same cores; all is on loopback and in memory: across a real network the network decides. Nothing here is durable.`

export const figure = value => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(3))

const ROW = 15
const LABEL = 190
const BAR = 380

/** Bars of all peers for each measure, as long as their speed beside the fastest of them. */
export function chart(title, found) {
  const parts = []
  let y = 44
  for (const { name, unit, better, samples } of found) {
    parts.push(text(10, y, `${name} (${unit})`, 'bold'))
    y += ROW + 2
    const values = Object.entries(samples).map(([peer, list]) => [peer, median(list)])
    const speed = value => (better === 'less' ? 1 / value : value)
    const most = Math.max(...values.map(([, value]) => speed(value)))
    for (const [peer, value] of values) {
      const width = Math.max(1, Math.round((speed(value) / most) * BAR))
      const colour = peer.includes('nbdgate') ? '#2a6fdb' : '#9aa5b1'
      parts.push(text(10, y, peer))
      parts.push(`<rect x="${LABEL}" y="${y - 10}" width="${width}" height="12" fill="${colour}"/>`)
      parts.push(text(LABEL + width + 6, y, figure(value)))
      y += ROW
    }
    y += 10
  }
  const width = LABEL + BAR + 80
  const frame = `xmlns="http://www.w3.org/2000/svg" width="${width}" height="${y}" viewBox="0 0 ${width} ${y}"`
  const style = '<style>text{font:11px sans-serif;fill:#333}.bold{font-weight:bold}</style>'
  const back = `<rect width="${width}" height="${y}" fill="#fff"/>`
  return `<svg ${frame} role="img">\n<title>${escaped(title)}</title>\n${style}${back}\n${text(10, 20, title, 'bold')}\n${parts.join('\n')}\n</svg>\n`
}

const escaped = value => value.replaceAll('&', '&amp;').replaceAll('<', '&lt;')
const text = (x, y, value, of = '') => `<text x="${x}" y="${y}"${of && ` class="${of}"`}>${escaped(value)}</text>`
