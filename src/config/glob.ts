/**
 * Whether a name is what a pattern means: `*` stands for any text, also none, and everything else for itself. Takes at
 * most name × pattern steps.
 */
export function globMatches(pattern: string, name: string): boolean {
  const [head = '', ...rest] = pattern.split('*')
  const tail = rest.pop()
  if (tail === undefined) return name === pattern
  if (!name.startsWith(head) || !name.endsWith(tail) || name.length < head.length + tail.length) return false
  const end = name.length - tail.length
  let at = head.length
  for (const piece of rest) {
    const found = name.indexOf(piece, at)
    if (found < 0 || found + piece.length > end) return false
    at = found + piece.length
  }
  return true
}
