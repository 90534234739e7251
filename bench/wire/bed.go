package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"vxlan_exporter/lab"
)

const (
	underlay = "eth0"
	device   = "vxlan1"
	port     = 8472
	address  = "10.99.0.2"
)

// bed is two namespaces joined by a veth pair, with VXLAN on it. The veth finishes no checksums and cuts no GSO packets for us, so
// that every packet passes by itself, as on a wire.
type bed struct{ sender, receiver *lab.NS }

func newBed(checksum bool) (*bed, error) {
	b := &bed{}
	var err error
	if b.sender, err = lab.NewNS("sender"); err != nil {
		return nil, err
	}
	if b.receiver, err = lab.NewNS("receiver"); err != nil {
		return nil, errors.Join(err, b.close())
	}
	csum := name(checksum)
	for _, step := range []struct {
		ns   *lab.NS
		line string
	}{
		{b.sender, "ip link add " + underlay + " type veth peer name " + underlay + " netns " + b.receiver.Name},
		{b.sender, "ip addr add 192.168.99.1/24 dev " + underlay},
		{b.receiver, "ip addr add 192.168.99.2/24 dev " + underlay},
		{b.sender, "ip link set " + underlay + " up"},
		{b.receiver, "ip link set " + underlay + " up"},
		{b.sender, "ethtool -K " + underlay + " tx off"},
		{b.receiver, "ethtool -K " + underlay + " tx off"},
		{b.sender, fmt.Sprintf("ip link add %s mtu 1450 type vxlan id 1 local 192.168.99.1 remote 192.168.99.2 dev %s dstport %d %s", device, underlay, port, csum)},
		{b.receiver, fmt.Sprintf("ip link add %s mtu 1450 type vxlan id 1 local 192.168.99.2 remote 192.168.99.1 dev %s dstport %d %s", device, underlay, port, csum)},
		{b.sender, "ip addr add 10.99.0.1/24 dev " + device},
		{b.receiver, "ip addr add " + address + "/24 dev " + device},
		{b.sender, "ip link set " + device + " up"},
		{b.receiver, "ip link set " + device + " up"},
	} {
		if _, err := step.ns.Run(strings.Fields(step.line)...); err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	return b, nil
}

func (b *bed) close() error {
	var errs []error
	for _, n := range []*lab.NS{b.sender, b.receiver} {
		if n != nil {
			errs = append(errs, n.Close())
		}
	}
	return errors.Join(errs...)
}

// stream is a TCP connection through the overlay that never stops sending.
type stream struct {
	received       atomic.Uint64
	client, server net.Conn
	failed         chan error
}

func (b *bed) startStream() (*stream, error) {
	s := &stream{failed: make(chan error, 2)}
	var l net.Listener
	err := b.receiver.Do(func() (err error) {
		l, err = net.Listen("tcp4", address+":5001")
		return err
	})
	if err != nil {
		return nil, err
	}
	defer l.Close()
	if s.client, err = b.sender.DialContext(context.Background(), "tcp4", address+":5001"); err != nil {
		return nil, err
	}
	if s.server, err = l.Accept(); err != nil {
		return nil, errors.Join(err, s.client.Close())
	}
	go func() {
		buf := make([]byte, 256<<10)
		for {
			if _, err := s.client.Write(buf); err != nil {
				s.failed <- err
				return
			}
		}
	}()
	go func() {
		buf := make([]byte, 256<<10)
		for {
			n, err := s.server.Read(buf)
			s.received.Add(uint64(n))
			if err != nil {
				if !errors.Is(err, io.EOF) {
					s.failed <- err
				}
				return
			}
		}
	}()
	return s, nil
}

// rate is a throughput in bytes: by seconds, and by seconds of CPU time of this process. The kernel does the work of both ends, softirqs
// included, mostly on its account, so the second is what a saturated CPU would reach, even where others use the machine too.
type rate struct{ wall, cpu float64 }

// rate is the throughput over d, after a moment to settle.
func (s *stream) rate(ctx context.Context, d time.Duration) (rate, error) {
	pause := func(d time.Duration) error {
		select {
		case <-time.After(d):
			return nil
		case err := <-s.failed:
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if err := pause(50 * time.Millisecond); err != nil {
		return rate{}, err
	}
	start, cpu, before := time.Now(), cpuTime(), s.received.Load()
	if err := pause(d); err != nil {
		return rate{}, err
	}
	n := float64(s.received.Load() - before)
	return rate{wall: n / time.Since(start).Seconds(), cpu: n / (cpuTime() - cpu).Seconds()}, nil
}

func (s *stream) close() {
	s.client.Close()
	s.server.Close()
}
