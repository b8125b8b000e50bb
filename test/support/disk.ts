/** Disks and content for tests: the same bytes for the same seed, on every machine. */

import { createCipheriv, createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { runOk } from './process.ts'
import { removeTempFolder } from './temp.ts'

const MIB = 1024 * 1024
const FILES_PER_FOLDER = 16

/** Bytes that look random and compress to nothing: AES-128-CTR over zeroes, with the seed as key. */
export function seededBytes(seed: number, sizeBytes: number): Buffer {
  const key = Buffer.alloc(16)
  key.writeDoubleBE(seed)
  return createCipheriv('aes-128-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(sizeBytes))
}

/** Makes a file of seeded bytes; its path. */
export async function seededFile(path: string, sizeMiB: number, seed = 1): Promise<string> {
  await writeFile(path, seededBytes(seed, sizeMiB * MIB))
  return path
}

/** SHA-256 of a file's content, in hexadecimal. */
export async function sha256(file: string): Promise<string> {
  const hash = createHash('sha256')
  await pipeline(createReadStream(file), hash)
  return hash.digest('hex')
}

/**
 * Makes `DIR/disk.ext4`: an ext4 file system with `files` files of seeded content, no two alike, of 1 byte up to about a
 * file's even share of half the disk. Its path.
 */
export async function ext4Image(dir: string, sizeMiB: number, files: number): Promise<string> {
  const image = join(dir, 'disk.ext4')
  const content = join(dir, 'disk.content')
  const longest = Math.max(1, Math.floor((sizeMiB * MIB) / 2 / files))
  for (let i = 0; i < files; i++) {
    const path = join(content, `folder-${Math.floor(i / FILES_PER_FOLDER)}`, `file-${i}`)
    await mkdir(dirname(path), { recursive: true })
    // A prime step: sizes on, below and above blocks, in no order.
    await writeFile(path, seededBytes(i + 1, 1 + ((i * 7919) % longest)))
  }
  await runOk(['mke2fs', '-q', '-F', '-t', 'ext4', '-d', content, image, `${sizeMiB}M`])
  await removeTempFolder(content)
  return image
}
