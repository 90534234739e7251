package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// traffic is a saturated overlay. Both ends are worked by the calling thread: the kernel then does nearly all it has to do, softirqs
// included, on that thread's account.
type traffic interface {
	// slice sends some 1,500 packets of full length and takes them out on the other side.
	slice(ctx context.Context) (packets int, err error)
	close()
}

// twins are two equal overlays. Only one of them is watched, and their traffic takes turns every few milliseconds on one thread, so
// that whatever else happens to the machine's speed happens to both.
type twins struct {
	beds    [2]*bed
	traffic [2]traffic
}

func newTwins(kind string, checksum bool) (t *twins, err error) {
	t = &twins{}
	for i := range t.beds {
		if t.beds[i], err = newBed(checksum); err != nil {
			return nil, errors.Join(err, t.close())
		}
		start := t.beds[i].startTCP
		if kind == "udp" {
			start = t.beds[i].startUDP
		}
		if t.traffic[i], err = start(); err != nil {
			return nil, errors.Join(err, t.close())
		}
	}
	return t, nil
}

func (t *twins) close() error {
	var errs []error
	for i, b := range t.beds {
		if t.traffic[i] != nil {
			t.traffic[i].close()
		}
		if b != nil {
			errs = append(errs, b.close())
		}
	}
	return errors.Join(errs...)
}

// cost is the CPU time of one packet on each of the twins.
type cost [2]time.Duration

// run lets them take turns for d.
func (t *twins) run(ctx context.Context, d time.Duration) (c cost, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var spent [2]time.Duration
	var packets [2]int
	for start, turn := time.Now(), 0; time.Since(start) < d; turn++ {
		for i := range t.traffic {
			i = (i + turn) % 2 // ABBA
			before := threadTime()
			n, err := t.traffic[i].slice(ctx)
			if err != nil {
				return c, err
			}
			spent[i] += threadTime() - before
			packets[i] += n
		}
	}
	for i := range c {
		if packets[i] == 0 {
			return c, errors.New("no packet has arrived")
		}
		c[i] = spent[i] / time.Duration(packets[i])
	}
	return c, nil
}

// subject is what watches an interface.
type subject interface {
	start() error
	settled() error // what it used so far is not of the round
	stop() error
}

const (
	// settle is how long the probe gets to find its sampling ratio and its windows.
	settle = 1200 * time.Millisecond
	// idle is how long a round without anything is.
	idle = 500 * time.Millisecond
)

// compare has the subjects, one for each twin, watch in turn. A pair of rounds, one with each, gives one ratio, in which a lasting
// difference between the twins cancels out.
func (t *twins) compare(ctx context.Context, subjects [2]subject, o options) (with, control, packet []float64, err error) {
	for range o.pairs {
		var on, off [2]cost
		for i, s := range subjects {
			if off[i], err = t.run(ctx, idle); err != nil {
				return nil, nil, nil, err
			}
			if err := s.start(); err != nil {
				return nil, nil, nil, err
			}
			if _, err := t.run(ctx, settle); err != nil {
				return nil, nil, nil, err
			}
			if err := s.settled(); err != nil {
				return nil, nil, nil, err
			}
			if on[i], err = t.run(ctx, o.round); err != nil {
				return nil, nil, nil, err
			}
			if err := s.stop(); err != nil {
				return nil, nil, nil, err
			}
		}
		with = append(with, gain(on))
		control = append(control, gain(off))
		packet = append(packet, float64(off[0][0]+off[0][1]+off[1][0]+off[1][1])/4)
	}
	return with, control, packet, nil
}

// gain is the throughput of the first twin in the first round and of the second in the second, by that of the other.
func gain(c [2]cost) float64 {
	return math.Sqrt(float64(c[0][1]) / float64(c[0][0]) * float64(c[1][0]) / float64(c[1][1]))
}

func quartiles(v []float64) string {
	return fmt.Sprintf("%.3f (%.3f to %.3f)", quantile(v, 0.5), quantile(v, 0.25), quantile(v, 0.75))
}

func quantile(v []float64, q float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[min(int(q*float64(len(v))), len(v)-1)]
}

func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
