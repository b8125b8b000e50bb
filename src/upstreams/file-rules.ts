import { Cmd, CmdFlag, Err, MAX_PAYLOAD_BYTES, TransmissionFlag } from '../protocol/constants.ts'
import type { ExportFacts } from '../protocol/info.ts'
import type { Request } from '../protocol/request.ts'

/**
 * Whether a request (any but DISC) may be carried out on a file of these facts: Err.NONE, or what to answer. The relay
 * holds requests against the same rules; a file is not written beyond its end even if it did not.
 */
export function checkRequest(request: Request, facts: ExportFacts): Err {
  const { type, length, flags } = request
  const changes = type === Cmd.WRITE || type === Cmd.TRIM || type === Cmd.WRITE_ZEROES
  // proto.md, "NBD_FLAG_READ_ONLY": the server MUST error all write operations with EPERM.
  if (changes && (facts.flags & TransmissionFlag.READ_ONLY) !== 0) return Err.PERM
  const allowed = allowedFlags(type, facts.flags)
  if (allowed === undefined || (flags & ~allowed) !== 0) return Err.INVAL
  if (type === Cmd.FLUSH) return Err.NONE
  if ((type === Cmd.READ || type === Cmd.WRITE) && length > MAX_PAYLOAD_BYTES) return Err.INVAL
  if (request.offset + BigInt(length) <= facts.sizeBytes) return Err.NONE
  // proto.md, "Error values": ENOSPC for a write beyond the end, EINVAL for the others.
  return changes && type !== Cmd.TRIM ? Err.NOSPC : Err.INVAL
}

/** The command flags that a command may carry; undefined for a command that the file does not offer. */
function allowedFlags(type: number, flags: number): number | undefined {
  switch (type) {
    case Cmd.READ:
      return CmdFlag.FUA | ((flags & TransmissionFlag.SEND_DF) !== 0 ? CmdFlag.DF : 0)
    case Cmd.WRITE:
    case Cmd.FLUSH:
    case Cmd.TRIM:
      // proto.md, "NBD_CMD_FLAG_FUA": valid on all commands once SEND_FUA was set.
      return CmdFlag.FUA
    case Cmd.WRITE_ZEROES:
      return CmdFlag.FUA | CmdFlag.NO_HOLE | ((flags & TransmissionFlag.SEND_FAST_ZERO) !== 0 ? CmdFlag.FAST_ZERO : 0)
    default:
      return undefined
  }
}
