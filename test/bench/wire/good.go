package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// paced measures what the probe uses at its packet cap while CPUs have time to spare. In a saturated machine, the softirqs that come due
// while the probe happens to run are booked on it.
func paced(ctx context.Context) error {
	return probed(ctx, func(s traffic, p *probe) error {
		if err := p.start(); err != nil {
			return err
		}
		var before result
		packets, start := 0, time.Now()
		for time.Since(start) < 8*time.Second {
			n, err := s.slice(ctx)
			if err != nil {
				return err
			}
			packets += n
			time.Sleep(50 * time.Millisecond)
			if before.Seconds == 0 && time.Since(start) > 2*time.Second { // the ratio is found
				if before, err = p.look(); err != nil {
					return err
				}
			}
		}
		rate := float64(packets) / time.Since(start).Seconds()
		after, err := p.stop()
		if err != nil {
			return err
		}
		used := usage{
			seconds: after.Seconds - before.Seconds, cpu: after.CPU - before.CPU,
			captured: after.Captured - before.Captured, lost: after.Lost - before.Lost,
		}
		used.in, used.out = after.Ratio*used.seconds, after.RatioOut*used.seconds
		fmt.Printf("udp udpcsum at %.0f packets/s; %s\n", rate, used)
		return nil
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
		for range 100 {
			if _, err := s.slice(ctx); err != nil {
				return err
			}
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
