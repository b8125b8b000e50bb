import type { Api } from './api.ts'
import { byId, setText } from './dom.ts'

/** Asks for the token; resolves when one was given. */
export async function askForToken(api: Api, why: string): Promise<void> {
  const form = byId('login', HTMLFormElement)
  const field = byId('token', HTMLInputElement)
  const message = byId('login-message', HTMLElement)
  const page = byId('live', HTMLElement)
  form.hidden = false
  page.hidden = true
  setText(message, api.hasToken ? why : '')
  api.use(undefined)
  field.value = ''
  field.focus()
  await new Promise<void>(resolve => {
    form.onsubmit = event => {
      event.preventDefault()
      const token = field.value.trim()
      if (token === '') return
      api.use(token)
      field.value = ''
      resolve()
    }
  })
  form.hidden = true
  page.hidden = false
}
