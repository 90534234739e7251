package main

import (
	"context"
	"errors"
	"fmt"
)

// throughput compares the twins while one of them is watched by the probe with its default settings.
func throughput(ctx context.Context, kind string, checksum bool, side string, o options) (err error) {
	t, err := newTwins(kind, checksum)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	var used usage
	var subjects [2]subject
	for i, b := range t.beds {
		p, err := b.startProbe(ctx, side)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.close()) }()
		subjects[i] = &watched{probe: p, used: &used}
	}
	with, control, packet, err := t.compare(ctx, subjects, o)
	if err != nil {
		return err
	}
	fmt.Printf("%s %-9s probe on the %-8s: throughput with/without %s, without/without %s; %.0f ns of CPU a packet; %s\n",
		kind, name(checksum), side, quartiles(with), quartiles(control), quantile(packet, 0.5), used)
	return nil
}

// usage sums up what probes have used.
type usage struct{ seconds, cpu, captured, lost, in, out float64 }

func (u usage) String() string {
	return fmt.Sprintf("probe: CPU %.2f %% of a core, %.0f packets/s looked at, %.1f lost, ratio in %.2g out %.2g",
		u.cpu/u.seconds*100, u.captured/u.seconds, u.lost/u.seconds, u.in/u.seconds, u.out/u.seconds)
}

// watched is a probe whose usage is summed up.
type watched struct {
	*probe
	used   *usage
	before result
}

func (w *watched) settled() (err error) {
	w.before, err = w.look()
	return err
}

func (w *watched) stop() error {
	r, err := w.probe.stop()
	if err != nil {
		return err
	}
	if r.Bad != 0 {
		return fmt.Errorf("%v of the good packets are called bad", r.Bad)
	}
	w.used.add(w.before, r)
	return nil
}

func (u *usage) add(before, after result) {
	seconds := after.Seconds - before.Seconds
	u.seconds += seconds
	u.cpu += after.CPU - before.CPU
	u.captured += after.Captured - before.Captured
	u.lost += after.Lost - before.Lost
	u.in += after.Ratio * seconds
	u.out += after.RatioOut * seconds
}
