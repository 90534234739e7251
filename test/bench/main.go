// Command bench measures what a scan of the connection tracking table costs, the scan itself and the packets that wait
// for it, next to the bare dump. It works in network namespaces of its own, as root.
//
// Every figure is taken in the same run as the one it is compared with: a round measures each way once, and ratios are
// medians over the rounds. net.netfilter.nf_conntrack_max, which is global, is raised for as long as the tables are
// filled.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

type options struct {
	sizes  []int // entries in the table
	rounds int
	echo   time.Duration // how long each UDP echo is measured
}

func main() {
	var err error
	if len(os.Args) > 1 && os.Args[1] == childFlag { // a measurement, in a process of its own
		err = child(os.Args[2:])
	} else {
		o := options{[]int{10_000, 100_000, 1_000_000}, 3, 2 * time.Second}
		quick := flag.Bool("quick", false, "small tables and one round, under 30 s")
		if flag.Parse(); *quick {
			o = options{o.sizes[:2], 1, 300 * time.Millisecond}
		}
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
		err = run(ctx, o)
		stop()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

const maxSysctl = "/proc/sys/net/netfilter/nf_conntrack_max"

func run(ctx context.Context, o options) (err error) {
	if runtime.NumCPU() < 2 {
		return errors.New("needs two CPUs: one that scans and one that sends")
	}
	was, err := os.ReadFile(maxSysctl)
	if err != nil {
		return fmt.Errorf("%w (needs the nf_conntrack module)", err)
	}
	largest := o.sizes[len(o.sizes)-1] * 3 / 2
	if n, err := strconv.Atoi(string(bytes.TrimSpace(was))); err == nil && n < largest {
		if err := os.WriteFile(maxSysctl, []byte(strconv.Itoa(largest)), 0); err != nil {
			return fmt.Errorf("%w (needs root in the initial network namespace)", err)
		}
		defer func() { err = errors.Join(err, os.WriteFile(maxSysctl, was, 0)) }()
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return err
	}
	fmt.Printf("Linux %s, %d CPUs\n", unix.ByteSliceToString(u.Release[:]), runtime.NumCPU())
	for _, n := range o.sizes {
		if err := size(ctx, o, n); err != nil {
			return fmt.Errorf("%d entries: %w", n, err)
		}
	}
	return nil
}

// size measures one size of the table.
func size(ctx context.Context, o options, n int) (err error) {
	s, err := newSite(ctx, n)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := ways(ctx, s, o.rounds); err != nil {
		return err
	}
	return echoes(ctx, s, o)
}
