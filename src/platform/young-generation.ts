import { PerformanceObserver } from 'node:perf_hooks'
import { getHeapSpaceStatistics, setFlagsFromString } from 'node:v8'

/**
 * Keeps V8's young generation from growing above some `bytes`. It grows while many objects live at once, on Node 24 to 64 MiB,
 * and what it has it keeps: a crowd of visitors would be seen in the process's memory for ever. (`--max-semi-space-size` does
 * the same for who can say it before Node starts; the factor by which V8 lets it grow is asked for at each step.)
 */
export function holdYoungGeneration(bytes: number): void {
  const observer = new PerformanceObserver(() => {
    const space = getHeapSpaceStatistics().find(({ space_name: name }) => name === 'new_space')
    if (space === undefined || space.space_size < bytes) return
    setFlagsFromString('--semi-space-growth-factor=1')
    observer.disconnect()
  })
  observer.observe({ entryTypes: ['gc'] })
}
