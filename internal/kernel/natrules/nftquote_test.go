package natrules

import (
	"context"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/test/lab/labtest"
)

// TestNativeQuotes compares native rules as they are quoted with what nft list ruleset prints of them.
func TestNativeQuotes(t *testing.T) {
	rules := []string{
		"meta mark & 0x00004000 == 0x00000000 return",
		"meta mark set meta mark xor 0x4000",
		"meta mark set 0x00000000",
		"masquerade fully-random",
		`oifname "eth0" masquerade random`,
		`oifname "cali*" accept`,
		"ip saddr 10.0.0.0/8 ip daddr != 10.244.0.0/16 masquerade",
		"ip saddr 10.1.2.3 drop",
		"meta l4proto udp return",
		"snat to 192.0.2.1 persistent",
		"jump other",
		"goto other",
		"ct state new return",
		"ct state established,related accept",
		"fib saddr type local return",
	}
	ns := labtest.New(t, "quote")
	ns.RunInput("table ip x {\n\tchain other {\n\t}\n\tchain post {\n\t\ttype nat hook postrouting priority srcnat\n\t\t"+
		strings.Join(rules, "\n\t\t")+"\n\t}\n}\n", "nft", "-f", "-")
	var listed, quoted []string
	for line := range strings.Lines(ns.Run("nft", "list", "chain", "ip", "x", "post")) {
		if line = strings.TrimSpace(line); line != "}" && !strings.HasSuffix(line, "{") && !strings.HasPrefix(line, "type ") {
			listed = append(listed, line)
		}
	}
	ns.Do(func() error {
		tables, err := openNFT(context.Background(), nl.Netfilter)
		if err != nil {
			return err
		}
		defer tables.close()
		c := tables.chain(chainKey{tableKey{unix.AF_INET, "x"}, "post"})
		if err := c.read(); err != nil {
			return err
		}
		for _, r := range c.rules {
			quoted = append(quoted, r.text)
		}
		return nil
	})
	if !slices.Equal(listed, quoted) {
		t.Errorf("nft prints\n%s\nquoted\n%s", strings.Join(listed, "\n"), strings.Join(quoted, "\n"))
	}
}
