/** What a service manager does for the programs that it starts, done by a little Python: it opens sockets, and hears datagrams. */
import { type Started, start } from './process.ts'
import { waitFor } from './wait.ts'

/** A socket to open: its name for LISTEN_FDNAMES, and a path or `HOST:PORT`. */
export interface Socket {
  readonly name: string
  readonly at: string
}

const OPEN = `
import json, os, socket, sys
sockets, argv = json.loads(sys.argv[1]), sys.argv[2:]
opened = []
for each in sockets:
    if each["at"].startswith("/"):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        s.bind(each["at"])
    else:
        host, port = each["at"].rsplit(":", 1)
        s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if each["name"] == "dgram" else socket.SOCK_STREAM)
        s.bind((host, int(port)))
    if each["name"] != "dgram": s.listen(64)
    opened.append(s.detach())
kept = [os.dup2(os.dup(fd), 100 + n) for n, fd in enumerate(opened)]
for n, fd in enumerate(kept): os.dup2(fd, 3 + n, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(kept)), LISTEN_FDNAMES=":".join(e["name"] for e in sockets))
os.closerange(3 + len(kept), 200)
os.execvp(argv[0], argv)
`

/** What to put in front of a command so that it finds these sockets open, as sd_listen_fds(3) says. */
export function withSockets(sockets: readonly Socket[]): readonly string[] {
  return ['python3', '-c', OPEN, JSON.stringify(sockets)]
}

const HEAR = `
import socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
path = sys.argv[1]
s.bind("\\0" + path[1:] if path.startswith("@") else path)
print("bound", flush=True)
while True:
    print("; ".join(s.recv(4096).decode().splitlines()), flush=True)
`

/** Hears what is told to a service manager. */
export interface NotifySocket {
  /** The datagrams so far, their lines joined by `; `. */
  heard(): readonly string[]
  waitFor(expected: RegExp): Promise<string>
  stop(): Promise<unknown>
}

/** Listens at a path, or at `@name`. */
export async function hearNotifications(path: string): Promise<NotifySocket> {
  const python: Started = await start(['python3', '-c', HEAR, path], { ready: () => true })
  const heard = (): readonly string[] => python.stdout().split('\n').slice(1, -1)
  await waitFor('the notify socket', () => python.stdout().startsWith('bound\n'), { describe: python.stderr })
  return {
    heard,
    waitFor: async expected => {
      await waitFor(String(expected), () => heard().some(line => expected.test(line)), {
        describe: () => heard().join('\n'),
      })
      return heard().find(line => expected.test(line)) ?? ''
    },
    stop: async () => await python.stop(),
  }
}
