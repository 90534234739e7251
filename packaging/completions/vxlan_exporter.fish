# fish completion for vxlan_exporter. The program itself says which flags and values can follow.
function __vxlan_exporter_complete
    set -l words (commandline --tokenize --current-process --cut-at-cursor)
    $words[1] --completion-bash $words[2..-1] (commandline --current-token --cut-at-cursor) 2>/dev/null
    # It does not name commands, since it takes serve for granted.
    if test (count $words) -eq 1
        printf '%s\n' serve check metrics probe selftest guard help
    end
end
complete --command vxlan_exporter --arguments '(__vxlan_exporter_complete)'
