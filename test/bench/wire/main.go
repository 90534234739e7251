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
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench/wire:", err)
		os.Exit(1)
	}
}

// options narrow the benchmark down; an empty word stands for all.
type options struct {
	traffic, checksum, side string
	pairs                   int
	round                   time.Duration
}

func run() error {
	var o options
	probe := flag.Bool("probe", false, "be the probe: commands on standard input (used by the benchmark itself)")
	flag.StringVar(&o.traffic, "traffic", "", "tcp or udp; empty: both")
	flag.StringVar(&o.checksum, "checksum", "", "noudpcsum or udpcsum; empty: both")
	flag.StringVar(&o.side, "side", "", "receiver or sender; empty: both")
	flag.IntVar(&o.pairs, "pairs", 12, "pairs of rounds for each row")
	flag.DurationVar(&o.round, "round", 2*time.Second, "length of a round")
	taps := flag.Bool("taps", true, "what a tap costs a packet, by its filter")
	packets := flag.Uint64("packets", 3_000_000, "good packets to judge one by one; 0: none")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if *probe {
		return beProbe(ctx)
	}
	for _, checksum := range pick(o.checksum, "noudpcsum", "udpcsum") {
		for _, kind := range pick(o.traffic, "udp", "tcp") {
			for _, side := range pick(o.side, "receiver", "sender") {
				if err := throughput(ctx, kind, checksum == "udpcsum", side, o); err != nil {
					return err
				}
			}
		}
	}
	if *taps {
		for _, side := range pick(o.side, "receiver", "sender") {
			if err := tapCosts(ctx, side, o); err != nil {
				return err
			}
		}
	}
	if *packets == 0 {
		return nil
	}
	return errors.Join(paced(ctx), goodPackets(ctx, *packets))
}

func pick(chosen string, all ...string) []string {
	if chosen != "" {
		return []string{chosen}
	}
	return all
}

func name(checksum bool) string {
	if checksum {
		return "udpcsum"
	}
	return "noudpcsum"
}
