package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/net/bpf"

	"vxlan_exporter/internal/kernel/capture"
	"vxlan_exporter/test/lab"
)

// tap is a packet socket that is bound all the time and hands over nothing: what the kernel itself takes.
type tap struct {
	ns      *lab.NS
	program []bpf.RawInstruction
	sock    capture.Socket
}

func (t *tap) start() error {
	return t.ns.Do(func() error {
		var err error
		if t.sock, err = capture.Open(); err != nil {
			return err
		}
		i, err := t.sock.Interface(underlay)
		if err != nil {
			return err
		}
		return errors.Join(t.sock.SetFilter(t.program), t.sock.Bind(i.Index))
	})
}

func (*tap) settled() error { return nil }

func (t *tap) stop() error { return t.sock.Close() }

// tapCosts measures what taps cost a packet, by their filter.
func tapCosts(ctx context.Context, side string, o options) error {
	nothing, err := bpf.Assemble([]bpf.Instruction{bpf.RetConstant{}})
	if err != nil {
		return err
	}
	filter := func(ratio float64) []bpf.RawInstruction {
		program, e := capture.Filter{Ports: []uint16{port}, MaxLength: 1522, Ratio: ratio}.Program()
		err = errors.Join(err, e)
		return program
	}
	for _, row := range []struct {
		name     string
		checksum bool
		program  []bpf.RawInstruction
	}{
		{"a filter that rejects everything at once", false, nothing},
		{"the filter of the probe, no checksum", false, filter(1)},
		{"the filter of the probe, sampling one in 2^32", true, filter(0)},
	} {
		if err == nil {
			err = tapCost(ctx, side, row.name, row.checksum, row.program, o)
		}
	}
	return err
}

func tapCost(ctx context.Context, side, what string, checksum bool, program []bpf.RawInstruction, o options) (err error) {
	t, err := newTwins("udp", checksum)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	var subjects [2]subject
	for i, b := range t.beds {
		subjects[i] = &tap{ns: b.on(side), program: program}
	}
	o.round = min(o.round, time.Second)
	with, _, packet, err := t.compare(ctx, subjects, o)
	if err != nil {
		return err
	}
	ratio, whole := quantile(with, 0.5), quantile(packet, 0.5)
	fmt.Printf("tap all the time on the %-8s, %-46s: throughput with/without %s, %.0f ns more on %.0f ns\n",
		side, what, quartiles(with), whole/ratio-whole, whole)
	return nil
}
