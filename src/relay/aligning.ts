/**
 * What becomes of requests that an upstream does not take because they do not keep to its blocks. Reads are widened; of a
 * write the blocks around it are read, changed and written. While that goes on no other change of this session touches
 * them: it waits, as a write of blocks waits for the changes that are out. Not atomic towards anybody else who writes.
 */
import { Cmd, CmdFlag, Err } from '../protocol/constants.ts'
import { encodeRequest } from '../protocol/request.ts'
import { encodeSimpleReply, SimpleReplyField } from '../protocol/simple-reply.ts'
import { ChunkField, encodeDataChunk, encodeErrorChunk } from '../protocol/structured-reply.ts'
import type { Room } from '../stream/memory.ts'
import { isChange } from './pending.ts'

/** A request as it was made. Offsets and lengths in bytes. */
export interface Asked {
  readonly type: number
  readonly flags: number
  readonly cookie: bigint
  readonly offset: number
  readonly length: number
  /** Of a WRITE that was held back. */
  readonly payload?: readonly Buffer[] | undefined
}

/** A request and what has come of it so far. */
export interface Job extends Asked {
  /** The blocks that it touches. */
  readonly start: number
  readonly end: number
  readonly isAligned: boolean
  /** What is held for it. */
  heldBytes: number
  /** Parts without an answer; the first error. */
  left: number
  error: number
  /** The blocks at its ends, as they were read. */
  first: Question | undefined
  last: Question | undefined
}

/** What the upstream was asked for on behalf of a job. */
export interface Question {
  readonly job: Job
  /**
   * `whole`: the job itself, whose answer passes. `status`: the same for more than was asked. `data`: is put together here.
   * `done`: only whether it went well counts.
   */
  readonly kind: 'whole' | 'status' | 'data' | 'done'
  readonly from: number
  readonly length: number
  /** Of `data`: what has come, and how much of it. */
  data: Buffer
  got: number
}

export interface AligningOptions {
  /** What offsets and lengths have to be multiples of; a power of two. */
  readonly blockBytes: number
  /** Nothing is asked for behind this. */
  readonly sizeBytes: number
  /** The upstream speaks structured replies. */
  readonly structured: boolean
  /** Misaligned READs that are out at once take no more, if that is more than one. */
  readonly memory: Room
}

/** Where messages of our own go, between two others. */
export interface AligningWays {
  readonly ask: (request: Buffer) => void
  readonly answer: (reply: Buffer) => void
}

const NOTHING = Buffer.alloc(0)

export class Aligning {
  readonly #options: AligningOptions
  readonly #ways: AligningWays
  readonly #questions = new Map<number, Question>()
  /** Changes that are out. */
  readonly #changes = new Set<Job>()
  #waiting: Job[] = []
  #last = 0
  #readBytes = 0
  #heldBytes = 0
  #isOver = false

  constructor(options: AligningOptions, ways: AligningWays) {
    this.#options = options
    this.#ways = ways
  }

  /** Payloads of writes that are held here, and what was read to be written with them. */
  get heldBytes(): number {
    return this.#heldBytes
  }

  /** Nothing more is asked. */
  close(): void {
    this.#isOver = true
    this.#waiting = []
  }

  /** Nothing more comes. */
  end(): void {
    this.close()
    this.#countRead(-this.#readBytes)
  }

  /** Whether a request can go out as it is now; if so it counts as out, under the number that comes back. */
  passes(asked: Asked): number | undefined {
    const job = this.#jobOf(asked)
    if (!job.isAligned || this.#mustWait(job, this.#waiting)) return undefined
    if (isChange(job.type)) this.#changes.add(job)
    return this.#question(job, 'whole', job.offset, job.length)
  }

  /** Takes a request that can not, with its payload. */
  take(asked: Asked): void {
    const job = this.#jobOf(asked)
    this.#hold(job, bytesOf(asked))
    if (this.#mustWait(job, this.#waiting)) this.#waiting.push(job)
    else this.#begin(job)
  }

  /** What a number stands for; undefined: nothing that is out. */
  find(number: number): Question | undefined {
    return this.#questions.get(number)
  }

  /** All of the answer to a number has come. */
  answered(number: number): void {
    const question = this.#questions.get(number)
    if (question === undefined) return
    this.#questions.delete(number)
    const { job } = question
    if (question.kind === 'whole' || question.kind === 'status') this.#finish(job)
    else if (--job.left === 0) this.#goOn(job)
  }

  /** The answer to a number can not pass, for it was an error for more than was asked. */
  failed(number: number): void {
    const question = this.#questions.get(number)
    if (question === undefined) return
    this.#questions.delete(number)
    this.#reply(question.job)
    this.#finish(question.job)
  }

  #jobOf(asked: Asked): Job {
    const { type, offset, length } = asked
    const { blockBytes, sizeBytes } = this.#options
    const start = offset - (offset % blockBytes)
    const end = Math.min(ceil(offset + length, blockBytes), Math.max(sizeBytes, offset + length))
    const isAligned = type === Cmd.FLUSH || (start === offset && end === offset + length)
    return {
      ...asked,
      start,
      end,
      isAligned,
      heldBytes: 0,
      left: 0,
      error: Err.NONE,
      first: undefined,
      last: undefined,
    }
  }

  /** Whether there is something that a job has to wait for: ahead of it, or out. */
  #mustWait(job: Job, ahead: readonly Job[]): boolean {
    if (job.type === Cmd.READ && !job.isAligned) {
      return this.#readBytes > 0 && this.#readBytes + (job.end - job.start) > this.#options.memory.mostBytes
    }
    if (!isChange(job.type)) return false
    if (ahead.some(other => collide(job, other))) return true
    for (const other of this.#changes) if (collide(job, other)) return true
    return false
  }

  #begin(job: Job): void {
    const { type, flags, offset, length, start, end } = job
    if (isChange(type)) this.#changes.add(job)
    if (job.isAligned) {
      this.#ask(job, 'whole', { offset, length, payload: job.payload })
    } else if (type === Cmd.READ) {
      this.#countRead(end - start)
      job.left = 1
      job.first = this.#read(job, start, end)
    } else if (type === Cmd.BLOCK_STATUS) this.#ask(job, 'status', { offset: start, length: end - start })
    else if (type === Cmd.TRIM) this.#trim(job)
    else if (type === Cmd.WRITE || (type === Cmd.WRITE_ZEROES && (flags & CmdFlag.FAST_ZERO) === 0))
      this.#readEdges(job)
    else if (type === Cmd.WRITE_ZEROES) {
      // proto.md, "NBD_CMD_FLAG_FAST_ZERO": what has to be read and written is not faster than a write.
      job.error = Err.NOTSUP
      this.#goOn(job)
    } else {
      job.left = 1
      this.#ask(job, 'done', { offset: start, length: end - start })
    }
  }

  /** TRIM is a hint: what it does not reach whole stays as it is. */
  #trim(job: Job): void {
    const [from, to] = this.#inner(job)
    job.left = 1
    if (from < to) this.#ask(job, 'done', { offset: from, length: to - from })
    else if (--job.left === 0) this.#goOn(job)
  }

  /** The whole blocks of a job: from, to. */
  #inner({ offset, length, end }: Job): readonly [number, number] {
    const { blockBytes } = this.#options
    const to = offset + length === end ? end : offset + length - ((offset + length) % blockBytes)
    return [ceil(offset, blockBytes), to]
  }

  #readEdges(job: Job): void {
    const { offset, length, start, end } = job
    const { blockBytes } = this.#options
    const firstEnd = Math.min(start + blockBytes, end)
    const lastStart = offset + length - 1 - ((offset + length - 1) % blockBytes)
    const hasFirst = offset > start
    const hasLast = offset + length < end && (!hasFirst || lastStart > start)
    job.left = (hasFirst ? 1 : 0) + (hasLast ? 1 : 0)
    if (hasFirst) job.first = this.#read(job, start, firstEnd)
    if (hasLast) job.last = this.#read(job, lastStart, end)
  }

  #read(job: Job, from: number, to: number): Question | undefined {
    const flags = job.type === Cmd.READ ? job.flags & ~CmdFlag.FUA : 0
    if (job.type !== Cmd.READ) this.#hold(job, to - from)
    const number = this.#ask(job, 'data', { type: Cmd.READ, flags, offset: from, length: to - from })
    return this.#questions.get(number)
  }

  /** All that a job waited for has come. */
  #goOn(job: Job): void {
    const isRead = job.first !== undefined || job.last !== undefined
    if (job.error === Err.NONE && isRead && isChange(job.type)) this.#write(job)
    else {
      this.#reply(job)
      this.#finish(job)
    }
  }

  /** Writes what was read with what was asked for in it. */
  #write(job: Job): void {
    const { offset, length, start, end, first, last, payload } = job
    const [head, tail] = [first?.data ?? NOTHING, last?.data ?? NOTHING]
    job.first = undefined
    job.last = undefined
    const flags = job.flags & CmdFlag.FUA
    const [from, to] = this.#inner(job)
    if (payload === undefined && from < to) {
      if (head.length > 0) head.fill(0, offset - start)
      if (tail.length > 0) tail.fill(0, 0, offset + length - to)
      job.left = 1 + (head.length > 0 ? 1 : 0) + (tail.length > 0 ? 1 : 0)
      if (head.length > 0)
        this.#ask(job, 'done', { type: Cmd.WRITE, flags, offset: start, length: head.length, payload: [head] })
      if (tail.length > 0)
        this.#ask(job, 'done', { type: Cmd.WRITE, flags, offset: to, length: tail.length, payload: [tail] })
      this.#ask(job, 'done', { offset: from, length: to - from })
      return
    }
    const behind = offset + length
    // At both ends of one block, or of two.
    const after = tail.length > 0 ? tail.subarray(behind - end) : head.subarray(behind - start)
    const pieces = [head.subarray(0, offset - start), ...(payload ?? [Buffer.alloc(length)])]
    if (behind < end) pieces.push(after)
    job.left = 1
    this.#ask(job, 'done', { type: Cmd.WRITE, flags, offset: start, length: end - start, payload: pieces })
  }

  /** Answers a job whose answer did not pass. */
  #reply(job: Job): void {
    const { type, cookie, error, offset, length, start } = job
    const { structured } = this.#options
    const { answer } = this.#ways
    if (error !== Err.NONE || type !== Cmd.READ) {
      answer(errorReply(cookie, error, structured && (type === Cmd.READ || type === Cmd.BLOCK_STATUS)))
      return
    }
    answer(
      structured ? encodeDataChunk(cookie, BigInt(offset), length) : encodeSimpleReply({ error: Err.NONE, cookie }),
    )
    const data = job.first?.data ?? NOTHING
    answer(data.subarray(offset - start, offset - start + length))
  }

  #finish(job: Job): void {
    if (isChange(job.type)) this.#changes.delete(job)
    else if (job.type === Cmd.READ && !job.isAligned) this.#countRead(job.start - job.end)
    this.#hold(job, -job.heldBytes)
    if (this.#waiting.length === 0) return
    const waiting = this.#waiting
    this.#waiting = []
    for (const each of waiting) {
      if (this.#mustWait(each, this.#waiting)) this.#waiting.push(each)
      else this.#begin(each)
    }
  }

  #hold(job: Job, bytes: number): void {
    job.heldBytes += bytes
    this.#heldBytes += bytes
  }

  #countRead(bytes: number): void {
    this.#readBytes += bytes
    this.#options.memory.add(bytes)
  }

  #question(job: Job, kind: Question['kind'], from: number, length: number): number {
    this.#questions.set(++this.#last, { job, kind, from, length, data: NOTHING, got: 0 })
    return this.#last
  }

  #ask(job: Job, kind: Question['kind'], request: Request): number {
    const { type = job.type, flags = job.flags, offset, length, payload = [] } = request
    const number = this.#question(job, kind, offset, length)
    if (this.#isOver) return number
    const { ask } = this.#ways
    ask(encodeRequest({ type, flags, cookie: BigInt(number), offset: BigInt(offset), length }))
    for (const piece of payload) if (piece.length > 0) ask(piece)
    return number
  }
}

/** What is asked, where it is not what the job asked. */
interface Request {
  readonly type?: number
  readonly flags?: number
  readonly offset: number
  readonly length: number
  readonly payload?: readonly Buffer[] | undefined
}

/** Puts data where they belong in what a question is for. */
export function place(question: Question, bytes: Buffer, at: number): void {
  if (question.data.length === 0) question.data = Buffer.alloc(question.length)
  question.data.set(bytes, at)
}

/** Whether one of two changes has to wait for the other: they touch the same block, and one of them reads it first. */
function collide(one: Job, other: Job): boolean {
  return !(one.isAligned && other.isAligned) && one.start < other.end && other.start < one.end
}

function ceil(bytes: number, blockBytes: number): number {
  return Math.ceil(bytes / blockBytes) * blockBytes
}

function bytesOf({ payload = [] }: Asked): number {
  return payload.reduce((sum, { length }) => sum + length, 0)
}

/** As the upstream said it: what becomes of its value is for the relay. */
function errorReply(cookie: bigint, error: number, isChunk: boolean): Buffer {
  const reply = isChunk ? encodeErrorChunk(cookie, Err.IO, '') : encodeSimpleReply({ error: Err.NONE, cookie })
  reply.writeUInt32BE(error, isChunk ? ChunkField.PAYLOAD : SimpleReplyField.ERROR)
  return reply
}
