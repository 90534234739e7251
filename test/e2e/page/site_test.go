//go:build e2e

package page_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/monitor"
	"vxlan_exporter/test/lab/scrape"
)

// Instance labels of the two nodes: the same in every cluster, as addresses of private networks are.
const (
	sender   = "node-a:10059"
	receiver = "node-b:10059"
)

// site is one cluster of two nodes with an exporter on each.
type site struct {
	*scenario
	*lab.Rig
	network *monitor.Network
	program string // the exporter
	wire    *lab.Wire

	stack  *monitor.Stack
	result result
	old    uint64 // InCsumErrors of the receiver before anyone watched

	exporters map[string]*scrape.Exporter // by instance
	addresses map[string]netip.AddrPort
}

func newSite(ctx context.Context, network *monitor.Network, s *scenario, program string) (*site, error) {
	c := &site{
		scenario: s, network: network, program: program, exporters: map[string]*scrape.Exporter{},
		addresses: map[string]netip.AddrPort{},
	}
	if err := c.boot(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", s.name, err), c.close())
	}
	return c, nil
}

// boot makes the nodes and starts the exporters, under the addresses they had if there were any before.
func (c *site) boot(ctx context.Context) (err error) {
	if c.Rig, err = lab.New(c.options); err != nil {
		return err
	}
	for instance, n := range c.nodes() {
		if old, had := c.addresses[instance]; had {
			err = c.network.AttachAs(n, old.Addr())
		} else {
			var address netip.Addr
			address, err = c.network.Attach(n)
			c.addresses[instance] = netip.AddrPortFrom(address, 10059)
		}
		if err != nil {
			return err
		}
	}
	if c.before != nil {
		if err := c.before(ctx, c); err != nil {
			return err
		}
	}
	for instance := range c.nodes() {
		if err := c.startExporter(ctx, instance); err != nil {
			return err
		}
	}
	c.wire, err = c.WatchWire()
	return err
}

func (c *site) nodes() map[string]*lab.NS { return map[string]*lab.NS{sender: c.A, receiver: c.B} }

func (c *site) startExporter(ctx context.Context, instance string) (err error) {
	c.exporters[instance], err = scrape.StartAt(ctx, c.nodes()[instance], c.addresses[instance].String(), c.program,
		c.flags...)
	return err
}

func (c *site) targets() []monitor.Target {
	var targets []monitor.Target
	for instance, address := range c.addresses {
		targets = append(targets,
			monitor.Target{Address: address, Labels: map[string]string{"cluster": c.name, "instance": instance}})
	}
	return targets
}

// close ends what boot made, whole or not.
func (c *site) close() error {
	var errs []error
	for instance, e := range c.exporters {
		if e != nil {
			errs = append(errs, e.Stop())
		}
		delete(c.exporters, instance)
	}
	if c.wire != nil {
		errs = append(errs, c.wire.Close())
		c.wire = nil
	}
	if c.Rig != nil {
		errs = append(errs, c.Close())
		c.Rig = nil
	}
	return errors.Join(errs...)
}

// bad lists the bad packets that arrived at the receiver since it booted.
func (c *site) bad(t *testing.T) []lab.BadPacket {
	t.Helper()
	seen, err := c.wire.Count()
	must(t, err)
	return seen.Bad
}

// ask makes a NodePort request that must be answered, sooner or later.
func (c *site) ask(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if after, err := c.Request(ctx); err != nil {
		t.Errorf("NodePort request: %v after %v", err, after)
	}
}

// counters are the receiver's own counters.
func (c *site) counters(t *testing.T) lab.Counters {
	t.Helper()
	counters, err := c.B.ReadCounters(t.Context())
	must(t, err)
	return counters
}

// outerNAT checks that outer packets are NATed now, by conntrack(8).
func (c *site) outerNAT(t *testing.T) {
	t.Helper()
	if flows, err := c.OuterNAT(); err != nil || len(flows) == 0 {
		t.Errorf("outer flows that are NATed: %v, %v; want some, or nothing was tested", flows, err)
	}
}

// noOuterNAT checks that they are not.
func (c *site) noOuterNAT(t *testing.T) {
	t.Helper()
	if flows, err := c.OuterNAT(); err != nil || len(flows) != 0 {
		t.Errorf("outer flows that are NATed: %v, %v; want none", flows, err)
	}
}

// noBadPackets checks that the receiver's wire has seen VXLAN, and nothing bad.
func (c *site) noBadPackets(t *testing.T) {
	t.Helper()
	if seen, err := c.wire.Count(); err != nil || seen.Packets == 0 || len(seen.Bad) != 0 {
		t.Errorf("on the wire: %+v, %v; want packets, none of them bad", seen, err)
	}
}

// nated lists the ports of the sender's flows to a UDP port whose source is rewritten, by conntrack(8).
func (c *site) nated(t *testing.T, port uint16) []string {
	t.Helper()
	out, err := c.A.Run("conntrack", "-L", "-p", "udp", "--src-nat", "--orig-port-dst", fmt.Sprint(port))
	must(t, err)
	var ports []string
	for line := range strings.Lines(out) {
		_, port, _ := strings.Cut(line, "sport=")
		port, _, _ = strings.Cut(port, " ")
		ports = append(ports, port)
	}
	return ports
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
