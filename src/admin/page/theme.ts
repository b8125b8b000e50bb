import { byId, setText } from './dom.ts'

const KEY = 'nbdgate-theme'
const THEMES = ['auto', 'light', 'dark'] as const
type Theme = (typeof THEMES)[number]

/** Dark and light as the system says, or as somebody chooses here; `repaint` is told of each change. */
export function followTheme(repaint: () => void): void {
  const button = byId('theme', HTMLButtonElement)
  const isTheme = (text: string | null): text is Theme => THEMES.some(theme => theme === text)
  const stored = localStorage.getItem(KEY)
  let theme: Theme = isTheme(stored) ? stored : 'auto'
  const show = (): void => {
    document.documentElement.dataset.theme = theme
    setText(button, `Theme: ${theme}`)
    repaint()
  }
  button.addEventListener('click', () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length] ?? 'auto'
    localStorage.setItem(KEY, theme)
    show()
  })
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', repaint)
  show()
}
