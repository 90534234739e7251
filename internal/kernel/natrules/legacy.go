package natrules

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// legacyTables are the tables that a packet on its way out passes, with the priority of each at its hooks
// (net/ipv4/netfilter/ iptable_*.c and net/ipv6/netfilter/ip6table_*.c: NF_IP_PRI_*). The security table changes
// neither mark nor address.
var legacyTables = [...]struct {
	name  string
	hooks map[int]int32
}{
	{"raw", map[int]int32{hookPrerouting: -300, hookOutput: -300}},
	{"mangle", map[int]int32{hookPrerouting: -150, hookForward: -150, hookOutput: -150, hookPostrouting: -150}},
	{"nat", map[int]int32{hookPrerouting: prioNATDst, hookOutput: prioNATDst, hookPostrouting: prioNATSrc}},
	{"filter", map[int]int32{hookForward: 0, hookOutput: 0}},
}

// maxNames bounds the tables of one family; the kernel has five.
const maxNames = 16

// legacyNames reads which legacy tables this namespace has. Asking the kernel for a table makes it, module and hooks
// included, so only those that are listed are asked for. An absent file means that ip_tables is not there. The file is
// root's; who may not read it can still know that no table is there where their modules are not loaded. A list that
// could be read in part only would make a table look absent, so it is an error.
func legacyNames(procNet string, ipv6 bool, g *gate) (map[string]bool, error) {
	file := "ip_tables_names"
	if ipv6 {
		file = "ip6_tables_names"
	}
	path, names := filepath.Join(procNet, file), map[string]bool{}
	_, err := anyLine(path, func(line []byte) bool {
		names[string(line)] = true
		return len(names) == maxNames
	})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Because there is no ip_tables, or because all of /proc/net is hidden (systemd's ProcSubset=pid)?
		if _, err := os.Stat(filepath.Join(procNet, "dev")); err != nil {
			return nil, fmt.Errorf("legacy tables: %s: %w (hidden)", path, fs.ErrPermission)
		}
		return nil, nil
	case errors.Is(err, fs.ErrPermission) && g.noLegacyTables(ipv6):
		return nil, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("legacy tables: %w (needs CAP_DAC_READ_SEARCH, or root)", err)
	case err != nil:
		return nil, fmt.Errorf("legacy tables: read %s: %w", path, err)
	}
	return names, nil
}

// readLegacy reads the base chains of one family's legacy tables. User chains are read when a walk enters them, so the
// tables stay open until they are closed.
func (r *Reader) readLegacy(ipv6 bool, look lookups) (set *ruleset, open []*legacyTable) {
	set = &ruleset{ipv6: ipv6, backend: Legacy}
	names, err := legacyNames(r.ProcNet, ipv6, &r.gate)
	for _, t := range legacyTables {
		if err != nil || !names[t.name] {
			continue
		}
		var table *legacyTable
		if table, err = openLegacy(r.OpenLegacy, t.name, ipv6); errors.Is(err, fs.ErrNotExist) {
			err = nil // gone in the meantime
			continue
		} else if err != nil {
			break
		}
		table.lookups = look
		open = append(open, table)
		for hook, priority := range t.hooks {
			var b *base
			if b, err = table.base(hook); err != nil {
				break
			}
			b.priority = priority
			set.bases = append(set.bases, b)
		}
	}
	if set.err = err; err != nil {
		set.bases = nil
	}
	return set, open
}
