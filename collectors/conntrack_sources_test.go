package collectors

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"vxlan_exporter/internal/kernel/conntrack/conntracktest"
	"vxlan_exporter/internal/node"
)

// sentFrom is a NATed flow from an address and port that ends in so many seconds.
func sentFrom(address string, port uint16, seconds int) conntracktest.Flow {
	f := conntracktest.VXLAN(0, 8472)
	f.Source = netip.AddrPortFrom(netip.MustParseAddr(address), port)
	f.ReplyDestination = f.WithSNAT().SNAT
	f.Timeout = time.Duration(seconds) * time.Second
	return f
}

// NATed flows are counted by the address they were sent from, with when one was last seen, made and met by a packet.
func TestConntrackSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := map[uint16]uint32{40000: 1, 40001: 2, 40002: 3}
		k := &conntracktest.Kernel{}
		k.IDs = func(i int) uint32 { return ids[k.Flows[i].Source.Port()] }
		c := NewConntrack(ConntrackConfig{Proc: conntrackProc(t, 3, 30), Open: k.Open})
		start := time.Now()
		at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
		source := func(address string, flows uint64, remaining int) node.NATSource {
			return node.NATSource{
				Family: node.IPv4, Port: 8472, Address: netip.MustParseAddr(address), Flows: flows,
				Remaining: time.Duration(remaining) * time.Second,
			}
		}
		for _, step := range []struct {
			seconds int
			flows   []conntracktest.Flow
			want    func() []node.NATSource
		}{
			{
				0,
				[]conntracktest.Flow{sentFrom("10.0.0.50", 40000, 20), sentFrom("10.0.0.50", 40001, 28)},
				func() []node.NATSource {
					s := source("10.0.0.50", 2, 28)
					s.Seen = at(0)
					return []node.NATSource{s}
				},
			},
			{10, []conntracktest.Flow{
				sentFrom("10.0.0.50", 40000, 10), sentFrom("10.0.0.50", 40001, 18),
				sentFrom("10.0.0.11", 40002, 29),
			}, func() []node.NATSource {
				own, s := source("10.0.0.11", 1, 29), source("10.0.0.50", 2, 18) // no packet met those of before
				own.Seen, own.Born, own.Used, s.Seen = at(10), at(0), at(0), at(10)
				return []node.NATSource{own, s}
			}},
			{20, []conntracktest.Flow{sentFrom("10.0.0.50", 40001, 25)}, func() []node.NATSource {
				own, s := source("10.0.0.11", 0, 0), source("10.0.0.50", 1, 25)
				own.Seen, own.Born, own.Used, s.Seen, s.Used = at(10), at(0), at(0), at(20), at(10)
				return []node.NATSource{own, s}
			}},
			{3615, nil, func() []node.NATSource { // an hour after the last of 10.0.0.11's
				s := source("10.0.0.50", 0, 0)
				s.Seen, s.Used = at(20), at(10)
				return []node.NATSource{s}
			}},
		} {
			time.Sleep(time.Until(at(step.seconds)))
			k.Flows = step.flows
			n, err := looked(c, flannelPort)
			if want := step.want(); err != nil || !slices.Equal(n.Conntrack.Sources, want) {
				t.Errorf("after %d s: error %v, sources\n%+v, want\n%+v", step.seconds, err, n.Conntrack.Sources, want)
			}
		}
	})
}

// However many addresses, as many as are remembered are listed, and all are counted.
func TestConntrackSourcesAreBounded(t *testing.T) {
	k := &conntracktest.Kernel{}
	for i := range maxNATSources + 10 {
		k.Flows = append(k.Flows, natted(i))
	}
	n, err := looked(NewConntrack(ConntrackConfig{Proc: conntrackProc(t, 100, 30), Open: k.Open}), flannelPort)
	if err != nil || len(n.Conntrack.Sources) != maxNATSources || n.Conntrack.Ports[0].SNAT != maxNATSources+10 {
		t.Errorf("error %v, %d sources, %+v", err, len(n.Conntrack.Sources), n.Conntrack.Ports)
	}
}
