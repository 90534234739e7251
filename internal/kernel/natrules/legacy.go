package natrules

import (
	"bufio"
	"errors"
	"fmt"
	"io"
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

// legacyNames reads which legacy tables this namespace has. Asking the kernel for a table makes it, module and hooks
// included, so only those that are listed are asked for. An absent file means that ip_tables is not there. The file is
// root's; who may not read it can still know that no table is there where their modules are not loaded.
func legacyNames(procNet string, ipv6 bool, g *gate) (map[string]bool, error) {
	file := "ip_tables_names"
	if ipv6 {
		file = "ip6_tables_names"
	}
	path := filepath.Join(procNet, file)
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		// MarkAbsent because there is no ip_tables, or because all of /proc/net is hidden (systemd's ProcSubset=pid)?
		if _, err := os.Stat(filepath.Join(procNet, "dev")); err != nil {
			return nil, fmt.Errorf("legacy tables: %s: %w (hidden)", path, fs.ErrPermission)
		}
		return nil, nil
	}
	if err != nil {
		if errors.Is(err, fs.ErrPermission) && g.noLegacyTables(ipv6) {
			return nil, nil
		}
		return nil, fmt.Errorf("legacy tables: %w (needs CAP_DAC_READ_SEARCH, or root)", err)
	}
	defer f.Close()
	names, err := scanNames(f)
	if err != nil {
		return nil, fmt.Errorf("legacy tables: read %s: %w", path, err)
	}
	return names, nil
}

// scanNames reads one name per line. A list that could be read in part only would make a table look absent, so it is an
// error.
func scanNames(r io.Reader) (map[string]bool, error) {
	names := map[string]bool{}
	s := bufio.NewScanner(r)
	for s.Scan() && len(names) < maxNames {
		names[s.Text()] = true
	}
	return names, s.Err()
}

// maxNames bounds the tables of one family; the kernel has five.
const maxNames = 16

// readLegacy reads the base chains of one family's legacy tables. User chains are read when a walk enters them, so the
// tables stay open until they are closed.
func (r *Reader) readLegacy(ipv6 bool, look lookups) (set *ruleset, open []*legacyTable) {
	set = &ruleset{family: familyIPv4, backend: Legacy, status: statusNone}
	if ipv6 {
		set.family = familyIPv6
	}
	names, err := legacyNames(r.procNet, ipv6, &r.gate)
	if err != nil {
		return set.failed(err), open
	}
	for _, t := range legacyTables {
		if !names[t.name] {
			continue
		}
		table, err := openLegacy(r.openLegacy, t.name, ipv6)
		if errors.Is(err, fs.ErrNotExist) { // gone in the meantime
			continue
		}
		if err != nil {
			return set.failed(err), open
		}
		table.lookups = look
		open = append(open, table)
		set.status = statusOK
		for hook := hookPrerouting; hook <= hookPostrouting; hook++ {
			priority, ok := t.hooks[hook]
			if !ok {
				continue
			}
			b, err := table.base(hook)
			if err != nil {
				return set.failed(err), open
			}
			b.priority = priority
			set.bases = append(set.bases, b)
		}
	}
	return set, open
}
