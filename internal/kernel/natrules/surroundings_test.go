package natrules

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/test/fuzz/bound"
	"vxlan_exporter/test/lab/labtest"
)

func TestSurroundings(t *testing.T) {
	ns := labtest.New(t, "around")
	ns.Run("ip", "link", "add", "vx", "index", "77", "type", "vxlan", "id", "9", "dstport", "4789", "remote", "192.0.2.1")
	ns.Run("ip", "addr", "add", "10.9.0.1/16", "dev", "vx")
	ns.Run("ip", "addr", "add", "fd09::1/64", "dev", "vx", "nodad")
	ns.Run("ip", "link", "set", "vx", "up")
	ns.Run("ip", "route", "add", "10.8.1.0/24", "dev", "vx")
	ns.Run("bridge", "fdb", "append", "02:00:00:00:00:02", "dev", "vx", "dst", "192.0.2.7")
	ns.Do(func() error {
		s, err := ReadSurroundings(t.Context(), nl.Route)
		if err != nil {
			return err
		}
		if got := s.Addrs(77); !slices.Contains(got, netip.MustParseAddr("10.9.0.1")) || !slices.Contains(got, netip.MustParseAddr("fd09::1")) {
			t.Errorf("addresses %v", got)
		}
		for _, want := range []string{"192.0.2.1", "192.0.2.7"} {
			if got := s.Remotes(77); !slices.Contains(got, netip.MustParseAddr(want)) || len(got) != 2 {
				t.Errorf("remotes %v", got)
			}
		}
		want := []netip.Prefix{netip.MustParsePrefix("10.8.1.0/24"), netip.MustParsePrefix("10.9.0.0/16"), netip.MustParsePrefix("fd09::/64")}
		if got := s.Overlay(77); !slices.Equal(sorted(got), want) {
			t.Errorf("overlay %v, want %v", got, want)
		}
		return nil
	})
}

// Remotes are the tunnel endpoints in the forwarding database of a VXLAN device.
func (s *Surroundings) Remotes(index int) []netip.Addr {
	var all []netip.Addr
	for _, r := range s.remotes[index] {
		all = append(all, r.Addr)
	}
	return all
}

// Overlay are the prefixes that are routed into an interface.
func (s *Surroundings) Overlay(index int) []netip.Prefix {
	var all []netip.Prefix
	for _, r := range s.routes[index] {
		all = append(all, r.Prefix)
	}
	return all
}

func sorted(p []netip.Prefix) []netip.Prefix {
	p = slices.Clone(p)
	slices.SortFunc(p, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return p
}

// FuzzSurroundings parses forged rtnetlink messages. The seeds in testdata/fuzz were recorded from Linux 6.18: addresses, forwarding
// databases, routes and nexthop objects.
func FuzzSurroundings(f *testing.F) {
	f.Add([]byte{2, 99, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0, 4, 0, 3, 0, 0, 0, 8, 0, 1, 0, 10, 0, 0, 0}) // a prefix longer than its address
	f.Fuzz(func(t *testing.T, b []byte) {
		bound.Read(t, len(b), 64, 0, func() {
			g := newGathering()
			facts := func() int {
				return len(g.addrs) + len(g.remotes) + len(g.routes) + len(g.links) + len(g.entriesBy) + len(g.routesBy) + len(g.objects)
			}
			for _, l := range g.lists() {
				before := facts()
				if err := l.take(b); err != nil && before != facts() {
					t.Errorf("a fact together with %v", err)
				}
			}
			holdsTrue(t, g, b)
			askAround(g)
		})
	})
}

// askAround asks what is known of a tunnel by the first interface of each list.
func askAround(g *gathering) {
	for index := range g.remotes {
		p := g.PortOf(vxlanPort, true, true, []Tunnel{{Name: "vx", Index: index}})
		for _, six := range []bool{false, true} {
			if p.Senders != nil {
				p.Senders(six, 0)
				p.Ways(six, 0)
			}
		}
	}
}

// FuzzNexthops parses a forged route or entry of a forwarding database and two nexthop objects that it may name.
func FuzzNexthops(f *testing.F) {
	for _, s := range nexthopSeeds() {
		f.Add(s[0], s[1], s[2])
	}
	f.Fuzz(func(t *testing.T, b, one, two []byte) {
		bound.Read(t, len(b)+len(one)+len(two), 128, 0, func() {
			g := newGathering()
			lists := map[string]list{}
			for _, l := range g.lists() {
				lists[l.what] = l
			}
			named := lists["routes"].take(b) == nil && len(g.routesBy) > 0
			_ = lists["forwarding databases"].take(b)
			for _, o := range [][]byte{one, two} {
				_ = lists["nexthop objects"].take(o)
			}
			known := len(g.objects)
			g.resolve()
			if named && known == 0 && len(g.routes) > 0 {
				t.Errorf("%v by an object that is not there", g.routes)
			}
			holdsTrue(t, g, slices.Concat(b, one, two))
		})
	})
}

// holdsTrue demands that what was gathered stands in b.
func holdsTrue(t *testing.T, g *gathering, b []byte) {
	t.Helper()
	for index := range g.addrs {
		for _, a := range g.Addrs(index) {
			if !bytes.Contains(b, a.AsSlice()) {
				t.Errorf("interface %d: %v from %x", index, a, b)
			}
		}
	}
	for index := range g.remotes {
		for _, a := range g.Remotes(index) {
			if !bytes.Contains(b, a.AsSlice()) {
				t.Errorf("device %d: %v from %x", index, a, b)
			}
		}
	}
	for index := range g.routes {
		if !bytes.Contains(b, binary.NativeEndian.AppendUint32(nil, uint32(index))) { //nolint:gosec // it was one
			t.Errorf("interface %d from %x", index, b)
		}
		for _, o := range g.Overlay(index) {
			if !o.IsValid() || !o.Addr().IsUnspecified() && !bytes.Contains(b, o.Addr().AsSlice()) {
				t.Errorf("prefix %v from %x", o, b)
			}
		}
	}
}

// TestUnknownRoutes: where routes are too many to be kept, packets of the node and of others may enter, from anywhere.
func TestUnknownRoutes(t *testing.T) {
	g := newGathering()
	g.links[7], g.addrs[7] = rtnl.Link{Name: "vx"}, []rtnl.Address{{Addr: netip.MustParseAddr("10.9.0.1"), Bits: 16}}
	g.routes = nil
	senders := g.PortOf(vxlanPort, true, false, []Tunnel{{Name: "vx", Index: 7}}).Senders(false, 0)
	if len(senders) != 2 || senders[0].In != nil || senders[1].In == nil || len(senders[0].Sources)+len(senders[1].Sources) != 0 {
		t.Errorf("%+v", senders)
	}
	if s := senders[1].describe(false); s != "pods or containers" {
		t.Errorf("described as %q", s)
	}
}
