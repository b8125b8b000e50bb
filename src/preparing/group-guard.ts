/**
 * Ends process groups when this process can not do it any more: killed, or crashed. Node can not ask the kernel for that
 * (prctl(2), PR_SET_PDEATHSIG, has to be called in the child between fork and exec), so a shell waits at the other end of a
 * pipe that breaks when we are gone.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import type { Log } from '../observe/log.ts'

const SCRIPT = `
trap '' TERM INT HUP
g=' '
while read -r op pid; do
  case $op in
    add) g="$g$pid " ;;
    del) case $g in *" $pid "*) g="\${g%%" $pid "*} \${g#*" $pid "}" ;; esac ;;
  esac
done
for p in $g; do kill -s TERM -- "-$p" 2>/dev/null; done
case $g in *[0-9]*) sleep 2 ;; esac
for p in $g; do kill -s KILL -- "-$p" 2>/dev/null; done
`

export class GroupGuard {
  readonly #log: Log
  readonly #leaders = new Set<number>()
  #shell: ChildProcess | undefined
  #isClosed = false

  constructor(log: Log) {
    this.#log = log
  }

  /** From now on this group ends with us. */
  add(leader: number): void {
    this.#leaders.add(leader)
    if (this.#shell === undefined) this.#start()
    else this.#write(`add ${leader}\n`)
  }

  /** The group has ended. */
  remove(leader: number): void {
    if (this.#leaders.delete(leader)) this.#write(`del ${leader}\n`)
  }

  close(): void {
    this.#isClosed = true
    this.#shell?.stdin?.end()
  }

  #start(): void {
    const shell = spawn('/bin/sh', ['-c', SCRIPT], { detached: true, stdio: ['pipe', 'ignore', 'ignore'], cwd: '/' })
    this.#shell = shell
    shell.unref()
    shell.stdin.on('error', () => {})
    shell.once('error', err => {
      this.#log.warn({ err }, 'nothing ends spawned servers if this process is killed')
    })
    shell.once('exit', () => {
      this.#shell = undefined
      // Somebody has killed it.
      if (!this.#isClosed && this.#leaders.size > 0 && shell.pid !== undefined) this.#start()
    })
    for (const leader of this.#leaders) this.#write(`add ${leader}\n`)
  }

  #write(line: string): void {
    this.#shell?.stdin?.write(line)
  }
}
