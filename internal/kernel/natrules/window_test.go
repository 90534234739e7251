package natrules

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"vxlan_exporter/test/lab/labtest"
)

// TestWindows compares what windows show of a table of several megabytes with the table read in one piece.
func TestWindows(t *testing.T) {
	for _, six := range []bool{false, true} {
		name := "iptables"
		if six {
			name = "ip6tables"
		}
		t.Run(name, func(t *testing.T) {
			ns := labtest.New(t, "window")
			var chains, rules strings.Builder
			for i := range 6000 {
				fmt.Fprintf(&chains, ":C-%d - [0:0]\n", i)
				fmt.Fprintf(&rules, "-A C-%d -m comment --comment number-%d -m mark --mark %d -j MASQUERADE --random-fully\n", i, i, i)
			}
			ns.RunInput("*nat\n"+chains.String()+rules.String()+"-A POSTROUTING -j C-5999\nCOMMIT\n", name+"-legacy-restore")
			ns.Do(func() error {
				windowed, err := openLegacy(openLegacySocket, "nat", six)
				if err != nil {
					return err
				}
				defer windowed.close()
				blob, ok := windowed.blob.(*tableEntries)
				if !ok || blob.whole {
					return fmt.Errorf("a table of %d bytes is read as %+v", windowed.size, windowed.blob)
				}
				all, err := openLegacy(openLegacySocket, "nat", six)
				if err != nil {
					return err
				}
				defer all.close()
				whole, _ := all.blob.(*tableEntries)
				whole.whole = true
				if err := whole.move(0); err != nil {
					return err
				}
				// Forwards, backwards and at the very end; the counters do not move in this namespace.
				const n = 400
				for i := range 40 {
					for _, off := range []int{i * windowed.size / 40, windowed.size - n - i*windowed.size/80} {
						off = max(0, min(off, windowed.size-n))
						a, err := blob.at(off, n)
						if err != nil {
							return fmt.Errorf("at %d: %w", off, err)
						}
						b, err := whole.at(off, n)
						if err != nil || !bytes.Equal(a, b) {
							return fmt.Errorf("at %d of %d: windows show something else (%w)", off, windowed.size, err)
						}
					}
				}
				if !blob.whole {
					t.Error("80 scattered reads did not end in reading the table whole")
				}
				for _, off := range []int{-1, windowed.size - 1, windowed.size, 1 << 40} {
					if _, err := blob.at(off, n); err == nil {
						t.Errorf("something at %d", off)
					}
				}
				return nil
			})
		})
	}
}

// TestWindowAfterReplacement: a table that is replaced by one of another size while it is walked is known to be torn.
func TestWindowAfterReplacement(t *testing.T) {
	ns := labtest.New(t, "torn")
	rules := "*nat\n" + strings.Repeat("-A OUTPUT -m comment --comment \"one of many\" -j RETURN\n", 5000) + "COMMIT\n"
	ns.RunInput(rules, "iptables-legacy-restore")
	ns.Do(func() error {
		table, err := openLegacy(openLegacySocket, "nat", false)
		if err != nil {
			return err
		}
		defer table.close()
		if _, err := ns.NS.RunInput("*nat\nCOMMIT\n", "iptables-legacy-restore"); err != nil {
			return err
		}
		if _, err := table.blob.at(1<<20, 100); err == nil {
			t.Error("read a table that is gone")
		}
		if !table.torn() {
			t.Error("the table does not count as torn")
		}
		return nil
	})
}
