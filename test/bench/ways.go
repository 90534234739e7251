package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// ways compares ways of reading the table, each with the drain of its own round, which is the first.
func ways(ctx context.Context, b *site, rounds int) error {
	all := []struct {
		name string
		args []string
	}{
		{"drain, 32 KiB, nothing parsed", []string{"drain", "32768"}},
		{"drain, 8 KiB, nothing parsed", []string{"drain", "8192"}},
		{"scan, full", []string{"scan", "full"}},
		{"scan, filter", []string{"scan", "filter"}},
		{"scan, auto", []string{"scan", "auto"}},
		{"kernel's filter on UDP and port", []string{"port"}},
	}
	seen := make([][]sample, len(all))
	for range rounds {
		for i, w := range all {
			s, err := b.measure(ctx, w.args...)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			if s.Strategy != "" && (s.Flows != nVXLAN || s.NAT != nNAT) {
				return fmt.Errorf("%s: %d flows, %d NATed; want %d, %d", w.name, s.Flows, s.NAT, nVXLAN, nNAT)
			}
			seen[i] = append(seen[i], s)
		}
	}
	fmt.Printf("\n## %d entries, %d VXLAN flows; %d rounds, medians\n\n", b.entries, nVXLAN, rounds)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprintln(t, "| way\t| time\t| time/drain\t| CPU/drain\t| peak memory\t| allocations\t| longest receive\t| "+
		"strategy\t|")
	fmt.Fprintln(t, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for i, w := range all {
		middle := func(of func(s, drain sample) float64) float64 {
			var v []float64
			for r, s := range seen[i] {
				v = append(v, of(s, seen[0][r]))
			}
			slices.Sort(v)
			return v[len(v)/2]
		}
		last := seen[i][rounds-1]
		fmt.Fprintf(t, "| %s\t| %s\t| %.2f\t| %.2f\t| %.1f MB\t| %v\t| %s\t| %s\t|\n", w.name,
			ms(middle(func(s, _ sample) float64 { return s.Wall.Seconds() })),
			middle(func(s, drain sample) float64 { return s.Wall.Seconds() / drain.Wall.Seconds() }),
			middle(func(s, drain sample) float64 { return s.CPU.Seconds() / drain.CPU.Seconds() }),
			float64(last.PeakKiB)/1024, middle(func(s, _ sample) float64 { return float64(s.Allocs) }),
			ms(middle(func(s, _ sample) float64 { return s.Longest.Seconds() })), last.Strategy)
	}
	return t.Flush()
}

func ms(seconds float64) string { return fmt.Sprintf("%.3g ms", seconds*1000) }

func msd(d time.Duration) string { return ms(d.Seconds()) }
