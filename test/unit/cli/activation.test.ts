import { describe, expect, it } from 'vitest'
import { takeActivation } from '../../../src/cli/activation.ts'

const PID = 4711

describe('what a service manager says in the environment', () => {
  it('is read once and taken away', () => {
    const environment = {
      PATH: '/bin',
      LISTEN_PID: '4711',
      LISTEN_FDS: '3',
      LISTEN_FDNAMES: 'tls:admin',
      NOTIFY_SOCKET: '/run/notify',
      WATCHDOG_USEC: '30000000',
      WATCHDOG_PID: '4711',
    }
    expect(takeActivation(environment, PID)).toEqual({
      descriptors: [
        { fd: 3, name: 'tls' },
        { fd: 4, name: 'admin' },
        { fd: 5, name: '' },
      ],
      notify: '/run/notify',
      watchdogMs: 30_000,
    })
    expect(environment).toEqual({ PATH: '/bin' })
    expect(takeActivation(environment, PID)).toEqual({ descriptors: [], notify: undefined })
  })

  it('is none of ours if it was said to another process', () => {
    const environment = {
      LISTEN_PID: '1',
      LISTEN_FDS: '3',
      WATCHDOG_USEC: '1000',
      WATCHDOG_PID: '1',
      NOTIFY_SOCKET: '',
    }
    expect(takeActivation(environment, PID)).toEqual({ descriptors: [], notify: undefined })
    expect(environment).toEqual({})
  })

  it.each(['-1', 'x', '1.5', '5000'])('is refused as a number of descriptors: %s', count => {
    expect(() => takeActivation({ LISTEN_PID: '4711', LISTEN_FDS: count }, PID)).toThrow(/LISTEN_FDS is no number/)
  })
})
