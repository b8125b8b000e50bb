/**
 * Holds a fence and writes "late" when it has been told that it may and was then held up until long after: a program of its
 * own for tests, told `access how untilMs goneMs` (milliseconds from now).
 * `how`: "stop", "block", or "order", which is not held up.
 */
import { writeSync } from 'node:fs'
import { bootMs } from '../../src/platform/libc.ts'
import { Fence } from '../../src/sharing/fence.ts'
import { signalTo } from './procfs.ts'

/** Of a "block"; the tests wait less. */
const BLOCK_MS = 60_000

const [access, how, untilMs, goneMs] = process.argv.slice(2)
const now = bootMs()
const fence = new Fence({ untilMs: now + Number(untilMs), goneMs: now + Number(goneMs) })
const letGo = fence.hold(access === 'read' ? 'read' : 'write', () => writeSync(1, 'passed '))
if (access === 'nobody') letGo()
if (how === 'order') setTimeout(() => writeSync(1, 'alive'), Number(goneMs) + 200)
else if (fence.isOpen()) {
  writeSync(1, 'asked ')
  if (how === 'stop') signalTo(process.pid, 'SIGSTOP')
  else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, BLOCK_MS)
  writeSync(1, 'late')
  fence.isOpen()
}
