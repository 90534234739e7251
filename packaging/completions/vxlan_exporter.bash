# bash completion for vxlan_exporter. The program itself says which flags and values can follow.
_vxlan_exporter() {
  local cur=${COMP_WORDS[COMP_CWORD]} commands="serve check metrics probe selftest guard help" words
  words=$("${COMP_WORDS[0]}" --completion-bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  # It does not name commands, since it takes serve for granted.
  ((COMP_CWORD > 1)) || words+=" $commands"
  # shellcheck disable=SC2207 # one word a line, none with blanks
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _vxlan_exporter vxlan_exporter
