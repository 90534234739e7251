package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
	"time"
)

// way is one way of looking at the table.
type way struct {
	name    string
	measure func(context.Context, *bed) (sample, error)
}

func allWays() []way {
	scan := func(strategy string) func(context.Context, *bed) (sample, error) {
		return func(ctx context.Context, b *bed) (sample, error) { return b.measure(ctx, "scan", strategy, "2") }
	}
	return []way{
		{"drain, 32 KiB, nothing parsed", func(ctx context.Context, b *bed) (sample, error) { return b.measure(ctx, "drain") }},
		{"drain, 8 KiB, nothing parsed", func(ctx context.Context, b *bed) (sample, error) { return b.measure(ctx, "drain8") }},
		{"scan, full", scan("full")},
		{"scan, filter", scan("filter")},
		{"scan, auto", scan("auto")},
		{"kernel's filter on UDP and port", func(ctx context.Context, b *bed) (sample, error) { return b.measure(ctx, "port") }},
		{"conntrack -L --orig-port-dst", func(ctx context.Context, b *bed) (sample, error) {
			return b.program(ctx, "conntrack", "-L", "-p", "udp", "--orig-port-dst", fmt.Sprint(port))
		}},
		{"cat /proc/net/nf_conntrack", func(ctx context.Context, b *bed) (sample, error) {
			return b.program(ctx, "cat", "/proc/net/nf_conntrack")
		}},
	}
}

// ways compares the ways, each with the drain of its own round.
func ways(ctx context.Context, b *bed, o options, n int) error {
	if err := b.prepare(ctx, o, n); err != nil {
		return err
	}
	all := allWays()
	rounds := make([][]sample, len(all))
	for range o.rounds {
		for i, w := range all {
			s, err := w.measure(ctx, b)
			if err != nil {
				return fmt.Errorf("%s: %w", w.name, err)
			}
			rounds[i] = append(rounds[i], s)
		}
	}
	fmt.Printf("\n## %d entries, %d of them UDP, %d VXLAN flows; %d rounds, medians\n\n", b.entries, b.udp+b.vxlan, nVXLAN, o.rounds)
	t := tabwriter.NewWriter(os.Stdout, 0, 0, 1, ' ', 0)
	fmt.Fprintln(t, "| way\t| time\t| time/drain\t| CPU/drain\t| peak memory\t| allocations\t| longest receive\t| entries sent\t| strategy\t|")
	fmt.Fprintln(t, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|")
	for i, w := range all {
		var wall, wallRatio, cpuRatio, longest, allocs []float64
		for r, s := range rounds[i] {
			base := rounds[0][r]
			wall = append(wall, s.Wall.Seconds())
			wallRatio = append(wallRatio, s.Wall.Seconds()/base.Wall.Seconds())
			cpuRatio = append(cpuRatio, s.CPU.Seconds()/base.CPU.Seconds())
			longest = append(longest, s.Longest.Seconds())
			allocs = append(allocs, float64(s.Allocs))
		}
		last := rounds[i][len(rounds[i])-1]
		fmt.Fprintf(t, "| %s\t| %s\t| %.2f\t| %.2f\t| %.1f MB\t| %s\t| %s\t| %s\t| %s\t|\n", w.name, ms(median(wall)), median(wallRatio), median(cpuRatio),
			float64(last.PeakKiB)/1024, orDash(last.Entries > 0, median(allocs)), orDash(last.Longest > 0, ms(median(longest))),
			orDash(last.Entries > 0, last.Entries), orDash(last.Strategy != "", last.Strategy))
		if last.Strategy != "" && (last.Flows != nVXLAN || last.NAT != nNAT) {
			return fmt.Errorf("%s: %d flows, %d NATed; want %d, %d", w.name, last.Flows, last.NAT, nVXLAN, nNAT)
		}
	}
	return t.Flush()
}

// prepare fills the table once for all sections: mostly TCP, some UDP, the few that are looked for.
func (b *bed) prepare(ctx context.Context, o options, n int) error {
	if b.entries > 0 {
		return nil
	}
	if err := b.addVXLAN(); err != nil {
		return err
	}
	return b.fill(ctx, n, int(float64(n)*o.udp))
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if m := len(v) / 2; len(v)%2 == 1 {
		return v[m]
	}
	return (v[len(v)/2-1] + v[len(v)/2]) / 2
}

func ms(seconds float64) string { return fmt.Sprintf("%.3g ms", seconds*1000) }

func msd(d time.Duration) string { return ms(d.Seconds()) }

func orDash(known bool, v any) string {
	if !known {
		return "-"
	}
	return fmt.Sprint(v)
}
