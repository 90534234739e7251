# fish completion for vxlan_exporter. The program itself says what can follow.
function __vxlan_exporter_complete
    set -l words (commandline --tokenize --current-process --cut-at-cursor)
    $words[1] --completion-bash $words[2..-1] (commandline --current-token --cut-at-cursor) 2>/dev/null
end
complete --command vxlan_exporter --arguments '(__vxlan_exporter_complete)'
