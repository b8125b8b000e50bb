/// <reference lib="dom" />
/// <reference lib="dom.iterable" />

/** What an element may be made with beside its children. */
export interface Properties {
  readonly class?: string
  readonly title?: string
  readonly [attribute: `aria-${string}` | `data-${string}`]: string
  readonly role?: string
  readonly type?: string
  readonly tabindex?: string
  readonly scope?: string
  readonly hidden?: string
}

/** Makes an element. Text stays text: nothing that a peer has sent becomes markup. */
export function make<Tag extends keyof HTMLElementTagNameMap>(
  tag: Tag,
  properties: Properties = {},
  ...children: readonly (Node | string)[]
): HTMLElementTagNameMap[Tag] {
  const element = document.createElement(tag)
  for (const [name, value] of Object.entries(properties)) element.setAttribute(name, value)
  element.append(...children)
  return element
}

/** The element with this id and of this kind. @throws TypeError if the page has none */
export function byId<Kind extends HTMLElement>(id: string, kind: new () => Kind): Kind {
  const found = document.getElementById(id)
  if (found instanceof kind) return found
  throw new TypeError(`the page has no ${kind.name} #${id}`)
}

/** Changes a text if it is another: what is the same costs no layout. */
export function setText(node: Node, text: string): void {
  if (node.textContent !== text) node.textContent = text
}

/** The same for an attribute. */
export function setAttribute(element: Element, name: string, value: string): void {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value)
}

/** The colour or other value of a custom property. */
export function cssValue(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim()
}
