package natrules

import (
	"os"
	"path/filepath"
	"testing"
)

// Without root's list of tables, "there are none" is said only where the loaded modules prove it.
func TestNoLegacyTables(t *testing.T) {
	tests := []struct {
		name, modules string
		four, six     bool
	}{
		{"modules without tables", "ip_tables 32768 0 - Live 0x0\nip6_tables 36864 0 - Live 0x0\nnf_tables 1 0 - Live 0x0\n", true, true},
		{"a table of IPv4", "ip_tables 32768 1 iptable_nat, Live 0x0\niptable_nat 16384 0 - Live 0x0\nip6_tables 36864 0 - Live 0x0\n", false, true},
		{"a table of IPv6", "ip_tables 32768 0 - Live 0x0\nip6_tables 36864 0 - Live 0x0\nip6table_raw 16384 0 - Live 0x0\n", true, false},
		{"a table that changes nothing of ours", "ip_tables 32768 0 - Live 0x0\niptable_security 16384 0 - Live 0x0\n", true, false},
		{"ip_tables built in, or not there", "nf_tables 1 0 - Live 0x0\n", false, false},
		{"no modules at all", "", false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			proc := t.TempDir()
			if err := os.WriteFile(filepath.Join(proc, "modules"), []byte(tt.modules), 0o600); err != nil {
				t.Fatal(err)
			}
			g := &gate{proc: proc}
			if four, six := g.noLegacyTables(false), g.noLegacyTables(true); four != tt.four || six != tt.six {
				t.Errorf("ipv4 %v, ipv6 %v; want %v, %v", four, six, tt.four, tt.six)
			}
		})
	}
	if (&gate{proc: t.TempDir()}).noLegacyTables(false) {
		t.Error("certain without /proc/modules")
	}
}
