# bash completion for vxlan_exporter. The program itself says what can follow.
_vxlan_exporter() {
  local cur=${COMP_WORDS[COMP_CWORD]} words
  words=$("${COMP_WORDS[0]}" --completion-bash "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  # shellcheck disable=SC2207 # one word a line, none with blanks
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o default -F _vxlan_exporter vxlan_exporter
