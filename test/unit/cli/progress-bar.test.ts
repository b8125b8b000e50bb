import { expect, it } from 'vitest'
import { progressBar } from '../../../src/cli/progress-bar.ts'

function shown(total: number, isTTY: boolean): string {
  let text = ''
  const bar = progressBar(total, { isTTY, write: piece => (text += piece) })
  for (let done = 0; done <= total; done++) bar.draw(done)
  bar.clear()
  return text
}

it('fills as a batch goes on, and leaves nothing behind', () => {
  expect(shown(2, true).split('\r\u001b[K')).toEqual([
    '',
    '[....................] 0 of 2',
    '[##########..........] 1 of 2',
    '[####################] 2 of 2',
    '',
  ])
})

it('is not shown of one, nor where there is no terminal', () => {
  expect([shown(1, true), shown(5, false)]).toEqual(['', ''])
})
