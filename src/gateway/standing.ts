/** Whether a session may go on: until a moment (milliseconds of the epoch) if there is one, or why not. */
export type Standing =
  | { readonly kind: 'holds'; readonly untilMs: number | undefined }
  | { readonly kind: 'gone'; readonly why: string }
