package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/scrape"
)

// The demonstration has failed when the stall is shorter than the first SYN timeout (RFC 6298: 1 s), or the cured
// request not clearly shorter.
const (
	stalled = 900 * time.Millisecond
	healthy = 500 * time.Millisecond
)

// checkLines is how much of the check command's report is shown: the verdict and the findings come first.
const checkLines = 25

// stage is a rig with an exporter on each node.
type stage struct {
	out    io.Writer
	rig    *lab.Rig
	binary string
	nodes  [2]*scrape.Exporter // sender, receiver
}

// snapshot is one scrape of each node.
type snapshot [2]scrape.Metrics

func demo(ctx context.Context, out io.Writer, binary string, o lab.Options) (err error) {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	rig, err := lab.New(o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rig.Close()) }()
	s := &stage{out: out, rig: rig, binary: binary}
	for i, n := range []*lab.NS{rig.A, rig.B} {
		// Every scrape looks anew, so that the demonstration need not wait for the usual intervals.
		e, err := scrape.Start(ctx, n, binary, "--conntrack.min-interval=0s", "--natrules.min-interval=0s",
			"--vxlan.port="+fmt.Sprint(o.Port))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, e.Stop()) }()
		s.nodes[i] = e
	}
	return s.play(ctx)
}

func (s *stage) play(ctx context.Context) error {
	wire, err := s.rig.WatchWire()
	if err != nil {
		return err
	}
	defer func() { _ = wire.Close() }()
	s.introduce()

	before, err := s.scrape(ctx)
	if err != nil {
		return err
	}
	s.say("\n1. A process on the sender asks the NodePort for a page:\n")
	var report string
	stall, during, err := s.curl(ctx, func() (err error) { report, err = s.check(ctx); return err })
	if err != nil {
		return err
	}
	after, err := s.scrape(ctx)
	if err != nil {
		return err
	}
	seen, err := wire.Count()
	if err != nil {
		return err
	}
	s.say("   %d packets with a bad outer checksum reached the receiver meanwhile.\n", len(seen.Bad))
	for i, node := range []string{"sender", "receiver"} {
		s.say("\n   What moved on the %s with the request:\n\n", node)
		s.table([]string{"before", "during", "after"}, before[i], during[i], after[i])
	}
	s.say("\n   What the check command said on the sender meanwhile:\n\n%s", report)

	s.say("\n2. The remedy on the sender:\n\n   $ ethtool -K %s tx-checksum-ip-generic off\n", lab.Device)
	if err := s.rig.SetTxChecksum(false); err != nil {
		return err
	}
	cured, _, err := s.curl(ctx, func() error { return nil })
	if err != nil {
		return err
	}
	last, err := s.scrape(ctx)
	if err != nil {
		return err
	}
	s.say("\n   What moved on the sender with the remedy:\n\n")
	s.table([]string{"before", "after"}, after[0], last[0])
	return verdict(stall, cured, len(seen.Bad))
}

func (s *stage) introduce() {
	o := s.rig.Options()
	s.say("Two nodes in network namespaces, joined by VXLAN (%s, UDP port %d).\n", lab.Device, o.Port)
	s.say("Sender %s, receiver %s, underlay %s.\n", s.rig.UnderlayA, s.rig.UnderlayB, o.Family)
	s.say("NodePort %s leads to pod %s behind the receiver.\n", s.rig.NodePort(), s.rig.PodIP)
	s.say("Rules of the sender: %s, random-fully %t, iptables-%s.\n", o.Rules, o.RandomFully, o.Backend)
	s.say("Its %s: outer UDP checksum %t, tx-checksum-ip-generic %t.\n", lab.Device, o.UDPChecksum, o.TxChecksum)
	if o.UDPTimeout != 0 {
		s.say("nf_conntrack_udp_timeout is %d s here. With the usual 30 s, the stall is 63 s.\n", o.UDPTimeout)
	}
}

// curl makes a request with curl from the sender, and scrapes both nodes and calls meanwhile while it hangs, or right
// after when it does not.
func (s *stage) curl(ctx context.Context, meanwhile func() error) (total time.Duration, during snapshot, err error) {
	url := "http://" + s.rig.NodePort().String() + "/"
	s.say("\n   $ curl %s\n", url)
	cmd := s.rig.A.Cmd(ctx, "curl", "--silent", "--show-error", "--max-time", "100", "--write-out",
		"%{stderr}%{time_total}", url)
	var body, timing strings.Builder
	cmd.Stdout, cmd.Stderr = &body, &timing
	if err := cmd.Start(); err != nil {
		return 0, during, err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err = <-done:
		done <- err
	case <-time.After(2 * time.Second): // by then two packets were lost, and connection tracking still remembers the flow
	}
	during, lookErr := s.scrape(ctx)
	lookErr = errors.Join(lookErr, meanwhile())
	if err := <-done; err != nil {
		return 0, during, fmt.Errorf("curl: %w: %s", err, timing.String())
	}
	if lookErr != nil {
		return 0, during, lookErr
	}
	var seconds float64
	if _, err := fmt.Sscan(timing.String(), &seconds); err != nil {
		return 0, during, fmt.Errorf("curl: timing %q: %w", timing.String(), err)
	}
	total = time.Duration(seconds * float64(time.Second))
	s.say("   %s   ... after %s\n", strings.TrimSuffix(body.String(), "\n"), total.Round(100*time.Microsecond))
	return total, during, nil
}

func (s *stage) scrape(ctx context.Context) (snap snapshot, err error) {
	for i, e := range s.nodes {
		if snap[i], err = e.Scrape(ctx); err != nil {
			return snap, fmt.Errorf("%w\n%s", err, e.Log())
		}
	}
	return snap, nil
}

// check returns what the exporter's check command prints on the sender. Its exit status tells what it found, so that is
// no error.
func (s *stage) check(ctx context.Context) (string, error) {
	cmd := s.rig.A.Cmd(ctx, s.binary, "check", "--interval=0s", "--vxlan.port="+fmt.Sprint(s.rig.Options().Port))
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		return "", err
	}
	lines := slices.Collect(strings.Lines(string(out)))
	rest := ""
	if more := len(lines) - checkLines; more > 0 {
		lines, rest = lines[:checkLines], fmt.Sprintf("... %d more lines\n", more)
	}
	return fmt.Sprintf("$ vxlan_exporter check --interval=0s\n%s%s(exit status %d)\n",
		strings.Join(lines, ""), rest, cmd.ProcessState.ExitCode()), nil
}

func (s *stage) say(format string, args ...any) { fmt.Fprintf(s.out, format, args...) }

// verdict fails when the demonstration did not show what it promised.
func verdict(stall, cured time.Duration, bad int) error {
	switch {
	case stall < stalled:
		return fmt.Errorf("the failure did not show: the request took %s only (are the switches such that it must fail?)",
			stall)
	case bad == 0:
		return errors.New("the failure did not show: no bad packet arrived")
	case cured > healthy:
		return fmt.Errorf("the remedy did not help: the request took %s", cured)
	}
	return nil
}
