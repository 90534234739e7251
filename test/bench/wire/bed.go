package main

import (
	"errors"
	"fmt"
	"strings"

	"vxlan_exporter/test/lab"
)

const (
	underlay = "eth0"
	device   = "vxlan1"
	port     = 8472
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
		{b.receiver, "ip addr add 10.99.0.2/24 dev " + device},
		{b.sender, "ip link set " + device + " up"},
		{b.receiver, "ip link set " + device + " up"},
	} {
		if _, err := step.ns.Run(strings.Fields(step.line)...); err != nil {
			return nil, errors.Join(err, b.close())
		}
	}
	return b, nil
}

// on is the namespace of a side.
func (b *bed) on(side string) *lab.NS {
	if side == "sender" {
		return b.sender
	}
	return b.receiver
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
