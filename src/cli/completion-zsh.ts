import type { Option } from 'commander'
import { allCommands, argumentValue, type CommandAt, optionValue, type ValueKind } from './command-tree.ts'
import { placeOf, quoted } from './completion-words.ts'

/** A script for zsh: to be sourced after compinit, or a file `_nbdgate` in $fpath. */
export function zshCompletion(root: CommandAt): string {
  const all = allCommands(root)
  const places = all.filter(({ path }) => path !== '').map(each => `      (${placeOf(each)}) ;;`)
  const values = all.flatMap(each =>
    each.options.flatMap(option => {
      const value = optionValue(option)
      if (value === undefined) return []
      const spellings = [option.short, option.long].filter(word => word !== undefined)
      return spellings.map(word => `    (${quoted(`${placeOf(each)} ${word}`)}) ${offer(value)}; return ;;`)
    }),
  )
  return `#compdef nbdgate
# zsh completion for nbdgate, made by: nbdgate completion zsh
_nbdgate() {
  local at='' word
  local -a list
  for word in "\${(@)words[2,CURRENT-1]}"; do
    case "$at/$word" in
${places.join('\n')}
      (*) continue ;;
    esac
    at="$at/$word"
  done
  case "$at \${words[CURRENT-1]}" in
${values.join('\n')}
  esac
  case "$at" in
${all.map(ofCommand).join('\n')}
  esac
}
if [[ "\${funcstack[1]}" == _nbdgate ]]; then _nbdgate "$@"; else compdef _nbdgate nbdgate; fi
`
}

function ofCommand(each: CommandAt): string {
  const commands = each.children.map(({ command }) => described(command.name(), command.description()))
  const options = each.options.flatMap(optionLines)
  const argument = argumentValue(each.command)
  const lines = [
    ...(commands.length > 0 ? [`list=(${commands.join(' ')}); _describe command list`] : []),
    ...(argument === undefined || argument.kind === 'free' ? [] : [offer(argument)]),
    `list=(${options.join(' ')}); _describe -o option list`,
  ]
  return `    (${quoted(placeOf(each))})\n${lines.map(line => `      ${line}`).join('\n')} ;;`
}

function optionLines({ short, long, description }: Option): readonly string[] {
  return [short, long].filter(word => word !== undefined).map(word => described(word, description))
}

/** `_describe` takes WORD:TEXT. */
function described(word: string, text: string): string {
  return quoted(`${word}:${text.replaceAll(':', '\\:')}`)
}

function offer(value: ValueKind): string {
  switch (value.kind) {
    case 'words':
      return `list=(${value.words.map(quoted).join(' ')}); _describe value list`
    case 'file':
      return '_files'
    case 'folder':
      return '_files -/'
    case 'free':
      return ':'
    default:
      return value satisfies never
  }
}
