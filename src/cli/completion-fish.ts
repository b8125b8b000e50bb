import { allCommands, argumentValue, type CommandAt, optionValue, type ValueKind } from './command-tree.ts'
import { placeOf } from './completion-words.ts'

/** A script for fish: to be sourced, or a file in its completions folder. */
export function fishCompletion(root: CommandAt): string {
  const all = allCommands(root)
  const places = all.filter(({ path }) => path !== '').map(placeOf)
  return `# fish completion for nbdgate, made by: nbdgate completion fish
function __nbdgate_at
    set -l at ''
    for word in (commandline -opc)[2..-1]
        switch "$at/$word"
            case ${places.join(' ')}
                set at "$at/$word"
        end
    end
    test "$at" = "$argv[1]"
end
complete -c nbdgate -f
${all.flatMap(ofCommand).join('\n')}
`
}

function ofCommand(each: CommandAt): readonly string[] {
  const begin = `complete -c nbdgate -n "__nbdgate_at '${placeOf(each)}'"`
  const argument = argumentValue(each.command)
  return [
    ...each.children.map(({ command }) => `${begin} -a ${command.name()} -d ${quoted(command.description())}`),
    ...(argument === undefined || argument.kind === 'free' ? [] : [`${begin}${offer(argument)}`]),
    ...each.options.map(option => {
      const value = optionValue(option)
      const spellings = [
        ...(option.short === undefined ? [] : [`-s ${option.short.slice(1)}`]),
        ...(option.long === undefined ? [] : [`-l ${option.long.slice(2)}`]),
      ]
      const takes = value === undefined ? '' : ` ${value.kind === 'file' ? '-r' : '-x'}${offer(value)}`
      return `${begin} ${spellings.join(' ')}${takes} -d ${quoted(option.description)}`
    }),
  ]
}

function offer(value: ValueKind): string {
  switch (value.kind) {
    case 'words':
      return ` -a ${quoted(value.words.join(' '))}`
    case 'file':
      return ' -F'
    case 'folder':
      return " -a '(__fish_complete_directories)'"
    case 'free':
      return ''
    default:
      return value satisfies never
  }
}

/** In single quotes fish knows two escapes: of the quote and of the backslash. */
function quoted(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`
}
