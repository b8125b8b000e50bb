/** All rows: what binds a server, what binds a client. */
import { clientHaggling } from './client-haggling.ts'
import { clientRequests } from './client-requests.ts'
import { clientTls } from './client-tls.ts'
import { type Entry, type Row, rowsOf, type Side } from './rows.ts'
import { serverContexts } from './server-contexts.ts'
import { serverHaggling } from './server-haggling.ts'
import { serverReplies } from './server-replies.ts'
import { serverRequests } from './server-requests.ts'
import { serverTls } from './server-tls.ts'

export const entries: Readonly<Record<Side, readonly Entry[]>> = {
  server: [...serverHaggling, ...serverTls, ...serverContexts, ...serverRequests, ...serverReplies],
  client: [...clientHaggling, ...clientTls, ...clientRequests],
}

export const rows: readonly Row[] = [...rowsOf('server', entries.server), ...rowsOf('client', entries.client)]
