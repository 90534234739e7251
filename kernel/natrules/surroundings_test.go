package natrules

import (
	"context"
	"net/netip"
	"slices"
	"testing"

	"vxlan_exporter/lab/labtest"
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
		s, err := ReadSurroundings(context.Background())
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

func sorted(p []netip.Prefix) []netip.Prefix {
	p = slices.Clone(p)
	slices.SortFunc(p, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return p
}

// FuzzSurroundings parses forged rtnetlink messages.
func FuzzSurroundings(f *testing.F) {
	f.Add([]byte{2, 24, 0, 0, 2, 0, 0, 0, 8, 0, 2, 0, 10, 0, 0, 1})
	f.Add([]byte{7, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 8, 0, 1, 0, 192, 0, 2, 1})
	f.Add([]byte{2, 99, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 8, 0, 4, 0, 3, 0, 0, 0, 8, 0, 1, 0, 10, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		s := &Surroundings{map[int][]netip.Addr{}, map[int][]netip.Addr{}, map[int][]netip.Prefix{}}
		s.address(b)
		s.forwarding(b)
		s.route(b)
		for index := range s.overlay {
			for _, p := range s.Overlay(index) {
				if !p.IsValid() {
					t.Errorf("invalid prefix from %x", b)
				}
			}
		}
		p := fuzzPorts()
		for i := range s.overlay {
			p[0].Overlay, p[0].Remotes = s.Overlay(i), s.Remotes(i)
		}
		innerPacket(&p[0], false)
		innerPacket(&p[0], true)
	})
}
