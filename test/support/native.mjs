/** Packages with native code: they stay outside the bundle, and are loaded from node_modules when they are needed. */
export const native = ['koffi', 'ssh2']
