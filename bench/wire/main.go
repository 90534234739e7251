// Command wire measures what the packet probe costs: throughput of a saturated overlay with the probe and without it, in paired
// rounds, and the CPU time of the probe. It also counts verdicts on good packets, none of which may be "bad". Needs root.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench/wire:", err)
		os.Exit(1)
	}
}

func run() error {
	var (
		probe   = flag.Bool("probe", false, "be the probe: commands on standard input (used by the benchmark itself)")
		rounds  = flag.Int("rounds", 20, "pairs of rounds for each row")
		length  = flag.Duration("round", 150*time.Millisecond, "length of a round")
		only    = flag.String("traffic", "", "tcp or udp; empty: both")
		packets = flag.Uint64("packets", 3_000_000, "good packets to judge one by one; 0: none")
	)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *probe {
		return beProbe(ctx)
	}
	for _, checksum := range []bool{false, true} {
		for _, kind := range []string{"tcp", "udp"} {
			if *only != "" && *only != kind {
				continue
			}
			if err := throughput(ctx, kind, checksum, *rounds, *length); err != nil {
				return err
			}
		}
	}
	if err := paced(ctx); err != nil {
		return err
	}
	if *packets > 0 {
		return goodPackets(ctx, *packets)
	}
	return nil
}

// sides are where the probe runs.
func sides() []string { return []string{"receiver", "sender"} }

func name(checksum bool) string {
	if checksum {
		return "udpcsum"
	}
	return "noudpcsum"
}

// throughput compares rounds with the probe to the rounds beside them without.
func throughput(ctx context.Context, kind string, checksum bool, rounds int, length time.Duration) (err error) {
	b, err := newBed(checksum)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	start, mean := b.startTCP, rates.byTime
	if kind == "udp" {
		start, mean = b.startUDP, rates.byWork
	}
	s, err := start()
	if err != nil {
		return err
	}
	defer s.close()
	for _, side := range sides() {
		p, err := b.startProbe(ctx, side)
		if err != nil {
			return err
		}
		n, d := rounds, length
		if side == "sender" {
			// What is sent is watched in windows seconds apart: a round holds at least one.
			n, d = max(rounds/6, 3), max(length, 4500*time.Millisecond)
		}
		err = compare(ctx, s, p, mean, fmt.Sprintf("%s %-9s probe on the %-8s", kind, name(checksum), side), n, d)
		if err = errors.Join(err, p.close()); err != nil {
			return err
		}
	}
	return nil
}

// settle is how long the probe gets to find its sampling ratio, and how much it can watch of what is sent.
const settle = 800 * time.Millisecond

func compare(ctx context.Context, s traffic, p *probe, mean func(rates) float64, title string, rounds int, length time.Duration) error {
	var pairs, control []float64
	for i := range rounds {
		measured := map[bool]float64{}
		// The order alternates, so that a drift of the machine favours neither.
		for _, with := range []bool{i%2 == 0, i%2 != 0} {
			if with {
				if err := p.start(); err != nil {
					return err
				}
			}
			if _, err := s.run(ctx, settle); err != nil {
				return err
			}
			r, err := s.run(ctx, length)
			if err != nil {
				return err
			}
			measured[with] = mean(r)
			if with {
				seen, err := p.stop()
				if err != nil {
					return err
				}
				if seen.Bad != 0 {
					return fmt.Errorf("%v of the good packets are called bad", seen.Bad)
				}
			}
		}
		// How far two rounds without the probe are apart says what the ratio is worth.
		again, err := s.run(ctx, length)
		if err != nil {
			return err
		}
		pairs = append(pairs, measured[true]/measured[false])
		control = append(control, mean(again)/measured[false])
	}
	fmt.Printf("%s: throughput with/without %s, without/without %s\n", title, quartiles(pairs), quartiles(control))
	return steady(ctx, s, p, mean, title)
}

// paced measures what the probe uses at its packet cap while CPUs have time to spare. In a saturated machine, the softirqs that come due
// while the probe happens to run are booked on it.
func paced(ctx context.Context) error {
	return probed(ctx, func(s traffic, p *probe) error {
		return steady(ctx, slowly{s}, p, rates.byTime, "paced udpcsum probe on the receiver")
	})
}

// probed calls f with UDP traffic through a healthy overlay and a probe on its receiver.
func probed(ctx context.Context, f func(traffic, *probe) error) (err error) {
	b, err := newBed(true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.close()) }()
	s, err := b.startUDP()
	if err != nil {
		return err
	}
	defer s.close()
	p, err := b.startProbe(ctx, "receiver")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.close()) }()
	return f(s, p)
}

// slowly leaves pauses.
type slowly struct{ traffic }

func (s slowly) run(ctx context.Context, d time.Duration) (rates, error) {
	var n float64
	start := time.Now()
	for time.Since(start) < d {
		r, err := s.traffic.run(ctx, 0)
		if err != nil {
			return nil, err
		}
		n += float64(len(r)) * slice * burst
		time.Sleep(100 * time.Millisecond)
	}
	return rates{n / time.Since(start).Seconds()}, nil
}

// steady measures what the probe itself uses once it has found its sampling ratio.
func steady(ctx context.Context, s traffic, p *probe, mean func(rates) float64, title string) error {
	if err := p.start(); err != nil {
		return err
	}
	if _, err := s.run(ctx, time.Second); err != nil {
		return err
	}
	before, err := p.look()
	if err != nil {
		return err
	}
	r, err := s.run(ctx, 3*time.Second)
	if err != nil {
		return err
	}
	after, err := p.stop()
	if err != nil {
		return err
	}
	if after.Bad != 0 {
		return fmt.Errorf("%v of the good packets are called bad", after.Bad)
	}
	d := after.Seconds - before.Seconds
	fmt.Printf("%s: CPU of the probe %.2f %% of a core, %.0f packets/s looked at, %.1f lost, ratio %.2g, at %.0f packets/s\n", title,
		(after.CPU-before.CPU)/d*100, (after.Captured-before.Captured)/d, (after.Lost-before.Lost)/d, after.Ratio, mean(r))
	return nil
}

func quartiles(v []float64) string {
	return fmt.Sprintf("%.3f (%.2f to %.2f)", quantile(v, 0.5), quantile(v, 0.25), quantile(v, 0.75))
}

func quantile(v []float64, q float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[min(int(q*float64(len(v))), len(v)-1)]
}

// goodPackets judges packets of a healthy overlay one by one, until n are judged.
func goodPackets(ctx context.Context, n uint64) error {
	return probed(ctx, func(s traffic, p *probe) error { return judgeGood(ctx, n, s, p) })
}

func judgeGood(ctx context.Context, n uint64, s traffic, p *probe) error {
	if err := p.startUnlimited(); err != nil {
		return err
	}
	start := time.Now()
	var r result
	var err error
	for r.Captured < float64(n) {
		if _, err := s.run(ctx, time.Second); err != nil {
			return err
		}
		if r, err = p.look(); err != nil {
			return err
		}
		if time.Since(start) > 5*time.Minute {
			return fmt.Errorf("only %.0f packets judged in 5 minutes", r.Captured)
		}
	}
	if r, err = p.stop(); err != nil {
		return err
	}
	fmt.Printf("good packets: %.0f judged one by one in %.0f s (%.0f more not captured), bad %v; verdicts %v\n",
		r.Captured, time.Since(start).Seconds(), r.Lost, r.Bad, r.Verdicts)
	if r.Bad != 0 {
		return fmt.Errorf("%v of the good packets are called bad", r.Bad)
	}
	return nil
}
