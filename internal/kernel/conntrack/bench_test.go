package conntrack_test

import (
	"context"
	"testing"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/kernel/conntrack/conntracktest"
	"vxlan_exporter/test/lab/labtest"
)

// BenchmarkScan scans a table of 20,000 entries, mostly TCP, by each strategy.
func BenchmarkScan(b *testing.B) {
	ns := labtest.New(b, "ctbench")
	ns.Do(func() error {
		tab, err := conntracktest.Open()
		if err != nil {
			return err
		}
		defer tab.Close()
		var all []conntracktest.Flow
		for i := range 18000 {
			all = append(all, conntracktest.TCP(i))
		}
		for i := range 2000 {
			all = append(all, conntracktest.UDP(i))
		}
		if err := tab.Add(all...); err != nil {
			return err
		}
		for _, strategy := range []conntrack.Strategy{conntrack.Full, conntrack.Filter} {
			b.Run(string(strategy), func(b *testing.B) {
				// b.Run has a goroutine of its own, on another thread.
				if err := ns.NS.Do(func() error {
					s := conntrack.NewScanner(conntrack.Config{Strategy: strategy})
					defer func() { _ = s.Close() }()
					var v tally
					b.ReportAllocs()
					for b.Loop() {
						if _, err := s.Scan(context.Background(), v4, &v); err != nil {
							return err
						}
					}
					return nil
				}); err != nil {
					b.Fatal(err)
				}
			})
		}
		return nil
	})
}
