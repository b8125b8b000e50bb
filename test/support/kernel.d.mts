/** A kernel that was unpacked: its version, its image, and the folder that has its lib/modules. */
export interface Kernel {
  readonly version: string
  readonly image: string
  readonly root: string
}

/** The kernel that is there; undefined if there is none. */
export function findKernel(): Kernel | undefined
