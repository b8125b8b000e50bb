import { allCommands, argumentValue, type CommandAt, optionValue, type ValueKind } from './command-tree.ts'
import { optionWords, placeOf, quoted } from './completion-words.ts'

/** A script for bash; it needs no bash-completion package. */
export function bashCompletion(root: CommandAt): string {
  const all = allCommands(root)
  const places = all.filter(({ path }) => path !== '').map(each => `      ${placeOf(each)}) ;;`)
  const values = all.flatMap(each =>
    each.options.flatMap(option => {
      const value = optionValue(option)
      if (value === undefined) return []
      const spellings = [option.short, option.long].filter(word => word !== undefined)
      return [
        `    ${spellings.map(word => quoted(`${placeOf(each)} ${word}`)).join(' | ')}) ${offer(value)}; return ;;`,
      ]
    }),
  )
  const words = all.map(each => `    ${quoted(placeOf(each))}) ${ofCommand(each)} ;;`)
  return `# bash completion for nbdgate, made by: nbdgate completion bash
__nbdgate_words() { mapfile -t COMPREPLY < <(compgen -W "$1" -- "$cur"); }
__nbdgate_files() { compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen "$1" -- "$cur"); }

_nbdgate() {
  local cur=\${COMP_WORDS[COMP_CWORD]} prev=\${COMP_WORDS[COMP_CWORD-1]} at='' word
  COMPREPLY=()
  # --option=value comes as three words
  if [[ $cur == '=' ]]; then cur=''
  elif [[ $prev == '=' ]]; then prev=\${COMP_WORDS[COMP_CWORD-2]}; fi
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case "$at/$word" in
${places.join('\n')}
      *) continue ;;
    esac
    at="$at/$word"
  done
  case "$at $prev" in
${values.join('\n')}
  esac
  case "$at" in
${words.join('\n')}
  esac
}
complete -F _nbdgate nbdgate
`
}

/** Options once a dash is typed, and where there is nothing else. */
function ofCommand(each: CommandAt): string {
  const options = `__nbdgate_words ${quoted(optionWords(each).join(' '))}`
  const names = each.children.map(({ command }) => command.name())
  const value = names.length > 0 ? { kind: 'words' as const, words: names } : argumentValue(each.command)
  if (value === undefined || value.kind === 'free') return options
  return `if [[ $cur == -* ]]; then ${options}; else ${offer(value)}; fi`
}

function offer(value: ValueKind): string {
  switch (value.kind) {
    case 'words':
      return `__nbdgate_words ${quoted(value.words.join(' '))}`
    case 'file':
      return '__nbdgate_files -f'
    case 'folder':
      return '__nbdgate_files -d'
    case 'free':
      return ':'
    default:
      return value satisfies never
  }
}
