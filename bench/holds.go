package main

import (
	"context"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"vxlan_exporter/kernel/conntrack/conntracktest"
)

// holds measures the longest receive of auto, warm, in tables of every make: many, few and no VXLAN flows, many and few UDP entries.
func holds(ctx context.Context, _ *bed, o options, n int) (err error) {
	b, err := newBed()
	if err != nil {
		return err
	}
	defer func() {
		if cerr := b.close(); err == nil {
			err = cerr
		}
	}()
	fmt.Printf("\n## longest receive with auto, %d entries, worst of %d warm scans\n\n", n, 3*o.rounds)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprintln(t, "| VXLAN flows\t| UDP entries\t| strategy\t| longest receive\t| time\t|")
	fmt.Fprintln(t, "|---\t|---\t|---\t|---\t|---\t|")
	line := func() error {
		var worst, wall time.Duration
		var strategy string
		for range o.rounds {
			for warm := range 3 {
				s, err := b.measure(ctx, "scan", "auto", fmt.Sprint(warm+1))
				if err != nil {
					return err
				}
				if s.Flows != b.vxlan {
					return fmt.Errorf("%d flows counted, %d made", s.Flows, b.vxlan)
				}
				worst, wall, strategy = max(worst, s.Longest), s.Wall, s.Strategy
			}
		}
		_, err := fmt.Fprintf(t, "| %d\t| %d\t| %s\t| %s\t| %s\t|\n", b.vxlan, b.udp+b.vxlan, strategy, msd(worst), msd(wall))
		return err
	}
	few := make([]conntracktest.Flow, nVXLAN)
	for i := range few {
		few[i] = conntracktest.VXLAN(i, port)
	}
	many := make([]conntracktest.Flow, n/5)
	for i := range many {
		many[i] = conntracktest.VXLAN(i, port)
	}
	steps := []func() error{
		func() error { return b.fill(ctx, n*7/10, 20) },
		func() error { b.vxlan = nVXLAN; return b.add(few) },
		func() error { return b.fill(ctx, n*8/10, b.udp+n/10) },
		func() error {
			b.vxlan, b.entries = 0, b.entries-nVXLAN
			return b.table(func(t *conntracktest.Table) error { return t.Delete(few...) })
		},
		func() error { b.vxlan = len(many); return b.add(many) },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
		if err := line(); err != nil {
			return err
		}
	}
	return t.Flush()
}
