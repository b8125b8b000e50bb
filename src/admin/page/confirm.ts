import { byId, setText } from './dom.ts'

/** Asks whether a session is to be ended. */
export async function confirmEnd(id: number): Promise<boolean> {
  const dialog = byId('confirm', HTMLDialogElement)
  setText(byId('confirm-text', HTMLElement), `End session ${id}? Its client loses the disk.`)
  dialog.returnValue = ''
  dialog.showModal()
  await new Promise(resolve => dialog.addEventListener('close', resolve, { once: true }))
  return dialog.returnValue === 'end'
}
