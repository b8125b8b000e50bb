// Bundles src/main.ts into dist/main.js.
import { bundle } from './bundle.mjs'

await bundle('dist')
