package probe

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

// maxSenders bounds the addresses that one peer is asked from: the route's own, the NIC's, and bridges'.
const maxSenders = 4

// Config says whom to ask.
type Config struct {
	Open    nl.Opener     // of an rtnetlink socket; nil: the running kernel's
	Devices []node.Device // candidates
	Peers   []netip.Addr  // overlay addresses; empty: drawn from the devices' neighbor tables
	Max     int           // peers drawn of a device and family; 0: all
	Mark    uint32
}

// Found is whom to ask and from where.
type Found struct {
	Mark     uint32
	Targets  []Target
	Own      map[netip.Addr]bool // addresses of this node
	Unprobed []string            // devices and addresses that are left out, and why
	can      *capabilities       // nil: not tried yet
}

// Draw takes up to so many peers of each device and family: those that have waited longest.
func (f *Found) Draw(most int) []Target {
	var drawn, left []Target
	taken := map[string]int{}
	for _, t := range f.Targets {
		if group := t.Device + " " + node.Family(t.Peer); taken[group] < most {
			taken[group]++
			drawn = append(drawn, t)
		} else {
			left = append(left, t)
		}
	}
	f.Targets = slices.Concat(left, drawn)
	return drawn
}

// finder reads what is needed to know the targets.
type finder struct {
	Config
	*rtnl.Conn
	found     Found
	addresses []rtnl.Address
	nics      map[int]rtnl.Link
	routed    map[way]bool // whether it is taken
}

// way is what the marked packets of a sender are taken to share, whichever peer they go to: the interface that they
// leave by.
type way struct {
	source netip.Addr
	index  int
}

// Find reads the peers from the neighbor tables, or takes those given, and the addresses to ask them from.
func Find(ctx context.Context, c Config) (Found, error) {
	conn, err := rtnl.Dial(ctx, c.Open)
	if err != nil {
		return Found{}, err
	}
	defer func() { _ = conn.Close() }()
	f := &finder{
		Config: c, Conn: conn, nics: map[int]rtnl.Link{}, routed: map[way]bool{},
		found: Found{Mark: c.Mark, Own: map[netip.Addr]bool{}},
	}
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		all, err := f.Addresses(family)
		if err != nil {
			return Found{}, err
		}
		f.addresses = append(f.addresses, all...)
	}
	for _, a := range f.addresses {
		f.found.Own[a.Addr] = true
	}
	if len(c.Peers) > 0 {
		err = f.given()
	} else {
		err = f.drawn()
	}
	return f.found, err
}

// given assigns each peer to the device that the route to it leads into.
func (f *finder) given() error {
	for _, peer := range f.Peers {
		route, err := f.Route(peer, netip.Addr{}, 0)
		if err != nil {
			return err
		}
		device, err := f.through(route)
		if err != nil {
			return fmt.Errorf("peer %s: %w", peer, err)
		}
		if err := f.add(device, peer); err != nil {
			return err
		}
	}
	return nil
}

// through is the device that a route leads into: itself, as a port of the bridge, or, where something else feeds it (an
// external device), the only candidate.
func (f *finder) through(route rtnl.Route) (*node.Device, error) {
	for i := range f.Devices {
		in, err := f.leadsInto(route, &f.Devices[i])
		if in || err != nil {
			return &f.Devices[i], err
		}
	}
	if len(f.Devices) == 1 && f.Devices[0].IsExternal() {
		return &f.Devices[0], nil
	}
	nic, err := f.nic(route.Index)
	if err != nil {
		return nil, err
	}
	return nil,
		fmt.Errorf("the route leads to %s, not into a VXLAN device (where another device feeds an external one, name that "+
			"with --device)", nic.Name)
}

func (f *finder) leadsInto(route rtnl.Route, d *node.Device) (bool, error) {
	if route.Index == d.Index {
		return true, nil
	}
	nic, err := f.nic(d.Index)
	return nic.Master != 0 && nic.Master == route.Index, err
}

// drawn draws peers of every device.
func (f *finder) drawn() error {
	for i := range f.Devices {
		d := &f.Devices[i]
		peers, why, err := f.neighbors(d)
		if errors.Is(err, fs.ErrNotExist) {
			f.leaveOut(d.Name, "the device is gone")
			continue
		}
		if err != nil {
			return err
		}
		if len(peers) == 0 {
			f.leaveOut(d.Name, why)
		}
		for _, six := range []bool{false, true} {
			of := slices.DeleteFunc(slices.Clone(peers), func(a netip.Addr) bool { return a.Is6() != six })
			rand.Shuffle(len(of), func(i, j int) { of[i], of[j] = of[j], of[i] })
			if f.Max > 0 && len(of) > f.Max {
				of = of[:f.Max]
			}
			for _, peer := range of {
				if err := f.add(d, peer); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (f *finder) leaveOut(what, why string) {
	f.found.Unprobed = append(f.found.Unprobed, what+": "+why)
}

// neighbors are the nodes behind a device: flannel and Calico keep a permanent entry for each. Behind a bridge the
// neighbors are the bridge's; those count whose link-layer address the VXLAN device's forwarding database knows. why
// there are none is said besides.
func (f *finder) neighbors(d *node.Device) (peers []netip.Addr, why string, err error) {
	nic, err := f.nic(d.Index)
	if err != nil || !d.Up {
		return nil, "the device is down", err
	}
	if nic.Master == 0 {
		all, err := f.Neighbors(d.Index)
		return usable(all, nil), "its neighbor table names no peer (--peer can name one)", err
	}
	all, err := f.Neighbors(nic.Master)
	if err != nil {
		return nil, "", err
	}
	forward, err := f.Forwarding(d.Index)
	known := map[string]bool{}
	for _, n := range forward {
		if n.Forward && n.Addr.IsValid() {
			known[n.LLAddr] = true
		}
	}
	return usable(all, known), "its bridge has no neighbor behind it (--peer can name one)", err
}

// usable are the unicast addresses of neighbors, permanent ones only where there are any.
func usable(all []rtnl.Neighbor, known map[string]bool) []netip.Addr {
	var permanent, other []netip.Addr
	for _, n := range all {
		a := n.Addr.Unmap()
		switch {
		case !n.Usable() || !a.IsValid() || a.IsMulticast() || a.IsLinkLocalUnicast() || a.IsUnspecified():
		case strings.Trim(n.LLAddr, "\x00") == "" || (known != nil && !known[n.LLAddr]):
		case n.State&unix.NUD_PERMANENT != 0:
			permanent = append(permanent, a)
		case n.State&unix.NUD_NOARP == 0:
			other = append(other, a)
		}
	}
	if len(permanent) > 0 {
		return permanent
	}
	return other
}

// add makes a target of a peer, with the addresses that packets to it can be sent from.
func (f *finder) add(d *node.Device, peer netip.Addr) error {
	route, err := f.Route(peer, netip.Addr{}, 0)
	if err != nil {
		return err
	}
	in, err := f.leadsInto(route, d)
	if err != nil {
		return err
	}
	if !in && !d.IsExternal() {
		nic, err := f.nic(route.Index)
		f.leaveOut(fmt.Sprintf("%s to %s", d.Name, peer), "the route leads to "+nic.Name)
		return err
	}
	t := Target{PathPeer: node.PathPeer{Device: d.Name, Peer: peer}}
	tx, ok := d.Features.Get("tx-checksum-ip-generic")
	t.UDPOffload = ok && tx.Active && route.Index == d.Index
	senders, err := f.senders(d, peer, route)
	if err != nil {
		return err
	}
	for _, s := range senders {
		w := way{s.Source, route.Index}
		taken, known := f.routed[w]
		if !known {
			r, err := f.Route(peer, s.Source, f.Mark)
			taken = err == nil && r.Index == route.Index
			f.routed[w] = taken
		}
		if taken {
			t.Senders = append(t.Senders, s)
		}
	}
	if len(t.Senders) == 0 {
		f.leaveOut(fmt.Sprintf("%s to %s", d.Name, peer), "no address of this node is routed into it")
		return nil
	}
	f.found.Targets = append(f.found.Targets, t)
	return nil
}

// senders are the addresses to ask from: the one that the route gives, the NIC's, which connections of the node itself
// often have, and those of bridges, for the pods and containers behind them, which rules that name a source network
// take for the same.
func (f *finder) senders(d *node.Device, peer netip.Addr, route rtnl.Route) ([]node.PathSender, error) {
	own := node.PathSender{Source: route.Source}
	var nics, bridges []node.PathSender
	seen := map[int]bool{route.Index: true}
	for _, a := range f.addresses {
		if a.Addr == route.Source {
			nic, err := f.nic(a.Index)
			if err != nil {
				return nil, err
			}
			own.Interface, seen[a.Index] = nic.Name, true
		}
	}
	for _, a := range f.addresses {
		if seen[a.Index] || a.Addr.Is4() != peer.Is4() || a.Addr.IsLoopback() || a.Addr.IsLinkLocalUnicast() {
			continue
		}
		nic, err := f.nic(a.Index)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		seen[a.Index] = true
		s := node.PathSender{Source: a.Addr, Interface: nic.Name}
		switch {
		case err != nil || !nic.Up:
		case nic.Name == d.Underlay || a.Index == d.UnderlayIndex:
			nics = append(nics, s)
		case nic.Kind == "bridge":
			bridges = append(bridges, s)
		}
	}
	all := slices.Concat([]node.PathSender{own}, nics, bridges)
	return all[:min(len(all), maxSenders)], nil
}

func (f *finder) nic(index int) (rtnl.Link, error) {
	if nic, ok := f.nics[index]; ok {
		return nic, nil
	}
	nic, err := f.NIC(index)
	if err == nil {
		f.nics[index] = nic
	}
	return nic, err
}

// Mark is the masquerade mark that the rules have; kube-proxy's default where none tells.
func Mark(n *node.Node) uint32 {
	for _, r := range n.NATRules.Rulesets {
		if r.Mark != 0 {
			return r.Mark
		}
	}
	return DefaultMark
}
