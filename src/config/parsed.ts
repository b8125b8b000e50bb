/** What a `parse*` function of this layer answers: the value, or a problem in words for whoever wrote the text. */
export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly problem: string }

/** A text that was understood. */
export function parsed<T>(value: T): Parsed<T> {
  return { ok: true, value }
}

/** A text that was not; the problem is a clause without a full stop, as it stands behind `file:line:col: `. */
export function unparsed(problem: string): { readonly ok: false; readonly problem: string } {
  return { ok: false, problem }
}
