import type { GatewayEvent } from '../../observe/event-feed.ts'

/** More than any event; a line that does not end is dropped. */
const MAX_CHARACTERS = 1024 * 1024

/** Server-sent events out of pieces of text: only the `data` of each, which is all that is sent here. */
export class EventParser {
  #rest = ''

  /** The events that this piece completes. */
  feed(text: string): readonly GatewayEvent[] {
    const parts = (this.#rest + text).split('\n\n')
    const rest = parts.pop() ?? ''
    this.#rest = rest.length > MAX_CHARACTERS ? '' : rest
    return parts.flatMap(part => {
      const data = part.split('\n').flatMap(line => (line.startsWith('data: ') ? [line.slice('data: '.length)] : []))
      return data.length === 0 ? [] : [parse(data.join('\n'))]
    })
  }
}

function parse(text: string): GatewayEvent {
  return JSON.parse(text)
}
