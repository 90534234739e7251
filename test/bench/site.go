package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"time"

	"vxlan_exporter/internal/kernel/conntrack/conntracktest"
	"vxlan_exporter/test/lab"
)

const (
	port     = 8472
	nVXLAN   = 50
	nNAT     = 3
	udpShare = 0.05 // of the entries
)

// site is a namespace whose table is filled, and a second one that packets come from.
type site struct {
	ns, peer *lab.NS
	entries  int
}

// newSite makes a table of n entries: mostly TCP, some UDP, the few VXLAN flows that are looked for.
func newSite(ctx context.Context, n int) (*site, error) {
	ns, err := lab.NewNS("bench")
	if err != nil {
		return nil, err
	}
	peer, err := lab.NewNS("benchpeer")
	if err != nil {
		return nil, errors.Join(err, ns.Close())
	}
	s := &site{ns: ns, peer: peer}
	flows := conntracktest.Decoys(port)
	for i := range nVXLAN {
		f := conntracktest.VXLAN(i, port)
		if i < nNAT {
			f = f.WithSNAT()
		}
		flows = append(flows, f)
	}
	for i := 0; err == nil && ctx.Err() == nil && s.entries < n; i++ {
		flow := conntracktest.TCP
		if i < int(udpShare*float64(n)) {
			flow = conntracktest.UDP
		}
		if flows = append(flows, flow(i)); len(flows) >= 10_000 || s.entries+len(flows) >= n {
			err = s.add(flows)
			flows = flows[:0]
		}
	}
	if err = errors.Join(err, ctx.Err()); err != nil {
		return nil, errors.Join(err, s.close())
	}
	return s, nil
}

func (s *site) close() error { return errors.Join(s.ns.Close(), s.peer.Close()) }

// add creates flows in the namespace.
func (s *site) add(flows []conntracktest.Flow) error {
	s.entries += len(flows)
	return s.ns.Do(func() error {
		t, err := conntracktest.Open()
		if err != nil {
			return err
		}
		return errors.Join(t.Add(flows...), t.Close())
	})
}

// sample is one measurement of one way of reading the table.
type sample struct {
	Wall, CPU, Longest time.Duration
	Flows, NAT         int
	Allocs             uint64
	PeakKiB            int64 // resident, at most
	Echoes             []time.Duration
	Strategy           string
}

// measure runs this program's child in the namespace, which prints a sample, with all its threads ahead of whatever
// else the machine does (chrt(1)), as on an idle one.
func (s *site) measure(ctx context.Context, args ...string) (m sample, err error) {
	exe, err := os.Executable()
	if err != nil {
		return m, err
	}
	out, err := s.ns.Cmd(ctx, append([]string{"chrt", "-f", "10", exe, childFlag}, args...)...).Output()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return m, fmt.Errorf("%v: %w: %s", args, err, exit.Stderr)
	}
	if err == nil {
		err = json.Unmarshal(out, &m)
	}
	if err != nil {
		return m, fmt.Errorf("%v printed %q: %w", args, out, err)
	}
	return m, nil
}
