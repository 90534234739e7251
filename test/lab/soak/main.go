// Command soak runs the exporter on the sending node of the two-node rig for a long time, while devices come and go, flows are NATed,
// clients scrape and look at the page, and people run check. It fails when memory, goroutines or open files grow.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/scrape"
)

func main() {
	duration := flag.Duration("duration", 30*time.Minute, "how long it takes")
	exporter := flag.String("exporter", "./vxlan_exporter", "the exporter's binary")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := soak(ctx, *exporter, *duration)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// samples is how many measurements are made, however long it takes.
const samples = 150

func soak(ctx context.Context, exporter string, duration time.Duration) (err error) {
	rig, err := lab.New(lab.LiveFailure())
	if err != nil {
		return err
	}
	defer func() { err = join(err, rig.Close()) }()
	e, err := scrape.Start(ctx, rig.A, exporter)
	if err != nil {
		return err
	}
	defer func() { err = join(err, e.Stop()) }()

	// The work is ended, not given a deadline: a deadline fails what is under way a moment before its context is done.
	working, stop := context.WithCancel(ctx)
	defer stop()
	w := startWork(working, stop, rig, exporter)
	measuring, cancel := context.WithTimeout(working, duration) // ends too when the work fails
	defer cancel()
	seen, err := measure(measuring, e, duration/samples)
	stop()
	if failed := w.wait(); failed != nil {
		err = failed // and not that the measuring ended with it
	}
	if err != nil {
		return fmt.Errorf("%w\nThe exporter wrote:\n%s", err, e.Log())
	}
	fmt.Printf("%s: %s\n", duration, w)
	cpu := seen.last["process_cpu_seconds_total"]
	fmt.Printf("CPU of the exporter: %.2f %% of one\n", 100*cpu/duration.Seconds())
	return seen.judge(os.Stdout)
}

func join(err, also error) error {
	if err == nil {
		return also
	}
	if also == nil {
		return err
	}
	return fmt.Errorf("%w; %w", err, also)
}
