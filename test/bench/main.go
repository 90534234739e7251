// Command bench measures what a look at the connection tracking table costs, the look itself and the packets that wait for it, next
// to the other ways of looking. It works in network namespaces of its own, as root.
//
// Every figure is taken in the same run as the one it is compared with: a round measures each way once, and ratios are medians over
// the rounds. Two settings are global, net.netfilter.nf_conntrack_max and nf_conntrack_buckets: the first is raised for as long as
// the tables are filled, the second changed during the resize check. A process of its own puts both back, however this one ends.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

type options struct {
	sizes    []int
	udp      float64
	rounds   int
	echo     time.Duration
	exact    time.Duration
	buckets  uint64
	sections string
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == childFlag { // a measurement, in a process of its own
		exit(child(os.Args[2:]))
	}
	o, err := parseOptions(os.Args[1:])
	if err != nil {
		exit(err)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	exit(run(ctx, o))
}

func exit(err error) {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		os.Exit(0)
	}
	fmt.Fprintln(os.Stderr, "bench:", err)
	os.Exit(1)
}

func parseOptions(args []string) (options, error) {
	var o options
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	sizes := f.String("sizes", "10000,100000,1000000", "entries in the table")
	quick := f.Bool("quick", false, "small tables and one round, under 30 s")
	f.Float64Var(&o.udp, "udp", 0.05, "part of the entries that is UDP, in the comparison of the ways")
	f.IntVar(&o.rounds, "rounds", 3, "rounds of the comparison")
	f.DurationVar(&o.echo, "echo", 2*time.Second, "how long each UDP echo is measured; 0: not at all")
	f.DurationVar(&o.exact, "exact", 10*time.Second, "how long each check of exact counts runs; 0: not at all")
	f.StringVar(&o.sections, "sections", "ways,holds,echo,exact", "what to measure")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if *quick {
		*sizes, o.rounds, o.echo, o.exact = "10000,100000", 1, 300*time.Millisecond, 2*time.Second
	}
	for s := range strings.SplitSeq(*sizes, ",") {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1000 || n > 4_000_000 {
			return o, fmt.Errorf("-sizes %q: want numbers from 1000 to 4000000", s)
		}
		o.sizes = append(o.sizes, n)
	}
	if o.rounds < 1 || o.udp < 0 || o.udp > 0.9 {
		return o, errors.New("-rounds must be at least 1, -udp from 0 to 0.9")
	}
	return o, nil
}

func run(ctx context.Context, o options) (err error) {
	if runtime.NumCPU() < 2 {
		return errors.New("needs two CPUs: one that scans and one that sends")
	}
	largest := 0
	for _, n := range o.sizes {
		largest = max(largest, n)
	}
	settings, err := raise(uint64(largest) * 3 / 2)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, settings.restore()) }()
	o.buckets = settings.buckets
	fmt.Printf("%s, %d CPUs, %d buckets\n", kernelRelease(), runtime.NumCPU(), o.buckets)
	for _, n := range o.sizes {
		if err := size(ctx, o, n); err != nil {
			return err
		}
	}
	return nil
}

// size runs every section for one size of the table.
func size(ctx context.Context, o options, n int) (err error) {
	b, err := newBed()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	for _, s := range []struct {
		name string
		run  func(context.Context, *bed, options, int) error
	}{{"ways", ways}, {"echo", echoes}, {"exact", exactness}, {"holds", holds}} {
		if !strings.Contains(o.sections, s.name) {
			continue
		}
		if err := s.run(ctx, b, o, n); err != nil {
			return fmt.Errorf("%s, %d entries: %w", s.name, n, err)
		}
	}
	return nil
}
