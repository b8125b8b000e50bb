import { Info } from '../protocol/constants.ts'
import { encodeInfoBlockSize, encodeInfoExport, encodeInfoText, type InfoRequest } from '../protocol/info.ts'
import type { Opened } from './host.ts'

/**
 * The data of each NBD_REP_INFO that answers an INFO or GO: INFO_EXPORT always, name, description and block sizes when
 * they were asked for, each once (proto.md, "NBD_OPT_INFO").
 */
export function infoReplies(request: InfoRequest, opened: Opened): readonly Buffer[] {
  const asked = new Set(request.infos)
  const replies = [encodeInfoExport({ sizeBytes: opened.sizeBytes, flags: opened.flags })]
  if (asked.has(Info.NAME)) replies.push(encodeInfoText(Info.NAME, opened.name))
  if (asked.has(Info.DESCRIPTION) && opened.description !== undefined) {
    replies.push(encodeInfoText(Info.DESCRIPTION, opened.description))
  }
  if (asked.has(Info.BLOCK_SIZE)) replies.push(encodeInfoBlockSize(opened.blockSize))
  return replies
}
