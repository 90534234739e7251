package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"

	"vxlan_exporter/internal/kernel/conntrack/conntracktest"
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
	scans := 3 * o.rounds
	fmt.Printf("\n## longest receive with auto, %d entries, %d scans after the first\n\n", n, scans)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprintln(t, "| VXLAN flows\t| UDP entries\t| strategy\t| longest receive, median\t| worst\t| time of a scan\t|")
	fmt.Fprintln(t, "|---\t|---\t|---\t|---\t|---\t|---\t|")
	line := func() error {
		s, err := b.measure(ctx, "holds", fmt.Sprint(scans))
		if err != nil {
			return err
		}
		if s.Flows != b.vxlan {
			return fmt.Errorf("%d flows counted, %d made", s.Flows, b.vxlan)
		}
		var holds []float64
		for _, h := range s.Holds {
			holds = append(holds, h.Seconds())
		}
		_, err = fmt.Fprintf(t, "| %d\t| %d\t| %s\t| %s\t| %s\t| %s\t|\n", b.vxlan, b.udp+b.vxlan, s.Strategy,
			ms(median(holds)), ms(slices.Max(holds)), msd(s.Wall))
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
