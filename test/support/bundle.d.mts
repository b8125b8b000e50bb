import type { Plugin } from 'esbuild'

/** Writes main.js and what it loads into `outdir`, a folder in the repository. */
export function bundle(outdir: string, plugins?: Plugin[]): Promise<void>
