/** The rules of proto.md that bind a client: nbdgate towards its upstreams. */
import { it } from 'vitest'
import { requires } from '../support/requires.ts'
import { layGround } from './ground.ts'
import { entries } from './table.ts'

requires('nbdkit')('a client', () => {
  const ground = layGround()
  for (const entry of entries.client) {
    if (entry.kind === 'proven') it(entry.title, () => entry.run(ground))
    const { run } = entry.kind === 'not kept' ? entry : {}
    if (entry.kind === 'not kept' && run !== undefined) it.fails(entry.title, () => run(ground))
  }
})
