#!/usr/bin/env node
// A worker has no use for the command line and all that it loads.
const { run } = await (process.argv[2] === 'worker' ? import('./cli/worker.ts') : import('./cli/program.ts'))

process.exitCode = await run(process.argv)
