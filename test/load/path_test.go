//go:build load

package load_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	nodes "vxlan_exporter/internal/node"
	"vxlan_exporter/internal/probe"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

var pathRounds = flag.Int("path-rounds", 1000, "rounds of the probe on each path")

// An answer comes within a millisecond here: what is waited for longer than this is lost.
const pathTimeout = 200 * time.Millisecond

// tally counts verdicts.
type pathTally struct {
	sync.Mutex
	states  map[nodes.PathState]int
	packets nodes.PathCount
	faults  []nodes.PathSender
}

func (c *pathTally) add(p nodes.Path) {
	c.Lock()
	defer c.Unlock()
	for _, peer := range p.Peers {
		for _, s := range peer.Senders {
			c.states[s.State]++
			for _, n := range []nodes.PathCount{s.Plain, s.PlainSoftware, s.Marked, s.MarkedSoftware} {
				c.packets.Sent += n.Sent
				c.packets.Answered += n.Answered
			}
			if s.State == nodes.PathNAT || s.State == nodes.PathOffload {
				c.faults = append(c.faults, s)
			}
		}
	}
}

// rounds asks a peer many times from a namespace, as many conversations side by side as width says.
func (c *pathTally) rounds(n *lab.NS, peer netip.Addr, senders []nodes.PathSender, rounds, width int) error {
	return n.Do(func() error {
		found := probe.Found{Mark: probe.DefaultMark, Own: map[netip.Addr]bool{}}
		for _, s := range senders {
			found.Own[s.Source] = true
		}
		for done := 0; done < rounds; done += width {
			var targets []probe.Target
			for range min(width, rounds-done) {
				targets = append(targets, probe.Target{
					PathPeer:   nodes.PathPeer{Device: lab.Device, Peer: peer, Senders: senders},
					UDPOffload: true,
				})
			}
			p := found.Round(context.Background(), targets, probe.Options{Count: probe.DefaultCount, Timeout: pathTimeout})
			if len(p.Limits) > 0 {
				return errors.New(p.Limits[0])
			}
			c.add(p)
		}
		return nil
	})
}

// lose drops tunnel packets at random as they arrive.
func lose(n *lab.NS, port uint16, percent int) error {
	_, err := n.RunInput(fmt.Sprintf(`table inet loss {
	chain in { type filter hook prerouting priority -350; udp dport %d numgen random mod 100 < %d drop; }
}
`, port, percent), "nft", "-f", "-")
	return err
}

// Random losses are no fault. One is lost by chance with the given probability each way; the rules are the fixed ones,
// so that whatever is found is false.
func TestPathLoss(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		there, back int
		rules       lab.Rules
	}{
		{"1 %", 1, 0, lab.RulesFixed},
		{"5 %", 5, 0, lab.RulesFixed},
		{"5 % both ways", 5, 5, lab.RulesFixed},
		{"5 %, spoiled", 5, 0, lab.RulesOld},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var limit unix.Rlimit
			if err := errors.Join(unix.Getrlimit(unix.RLIMIT_NOFILE, &limit),
				unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: limit.Max, Max: limit.Max})); err != nil {
				t.Fatal(err)
			}
			o := lab.LiveFailure()
			o.Rules, o.UDPTimeout = c.rules, 1 // a flow that is tracked already is not NATed: not thousands of them
			r := labtest.NewRig(t, o)
			// Nor is a marked packet of a flow that is tracked already cleared of its mark: thousands of SYNs a minute would use
			// ports again.
			if _, err := r.A.Run("sysctl", "-qw", "net.netfilter.nf_conntrack_tcp_timeout_syn_sent=1",
				"net.netfilter.nf_conntrack_tcp_timeout_close=1"); err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(lose(r.B, o.Port, c.there), lose(r.A, o.Port, c.back)); err != nil {
				t.Fatal(err)
			}
			tally := &pathTally{states: map[nodes.PathState]int{}}
			senders := []nodes.PathSender{{Source: netip.MustParseAddr("10.244.0.0"), Interface: lab.Device}}
			if err := tally.rounds(r.A, netip.MustParseAddr("10.244.1.0"), senders, *pathRounds, 50); err != nil {
				t.Fatal(err)
			}
			t.Logf("%v, %d of %d packets answered", tally.states, tally.packets.Answered, tally.packets.Sent)
			if c.rules == lab.RulesOld {
				// A marked packet whose outer source port is that of a tracked flow is not NATed, and arrives.
				if tally.states[nodes.PathOK] > *pathRounds/1000 || tally.states[nodes.PathNAT] < *pathRounds*3/4 {
					t.Errorf("a fault was missed: %v", tally.states)
				}
			} else if len(tally.faults) > 0 {
				t.Errorf("false: %+v", tally.faults)
			}
		})
	}
}

// Fifty exporters ask one peer at the same time, again and again: its kernel's limits on ICMP errors make no fault.
func TestPathCrowd(t *testing.T) {
	t.Parallel()
	const crowd = 50
	b := labtest.New(t, "asked")
	bridge := []string{"link add br0 type bridge", "addr add 192.168.77.254/24 dev br0", "link set br0 up"}
	var askers []*labtest.NS
	for i := 1; i <= crowd; i++ {
		n := labtest.New(t, "asker")
		askers = append(askers, n)
		bridge = append(bridge, fmt.Sprintf("link add v%d type veth peer name eth0 netns %s", i, n.Name),
			fmt.Sprintf("link set v%d master br0 up", i))
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(b.IP(bridge...))
	mac := func(i int) string { return fmt.Sprintf("02:76:78:00:00:%02x", i) }
	tunnel := func(local string, i int) []string {
		return []string{
			fmt.Sprintf("link add %s address %s mtu 1450 type vxlan id 1 local %s dstport 8472 nolearning udpcsum", lab.Device,
				mac(i), local),
			fmt.Sprintf("addr add 10.244.%d.0/32 dev %s", i, lab.Device), "link set " + lab.Device + " up",
		}
	}
	must(b.IP(tunnel("192.168.77.254", 254)...))
	for i, n := range askers {
		i++
		must(n.IP(append([]string{fmt.Sprintf("addr add 192.168.77.%d/24 dev eth0", i), "link set eth0 up"},
			append(tunnel(fmt.Sprintf("192.168.77.%d", i), i),
				"neigh add 10.244.254.0 lladdr "+mac(254)+" dev "+lab.Device+" nud permanent",
				"route add 10.244.254.0/24 via 10.244.254.0 dev "+lab.Device+" onlink")...)...))
		n.Run("bridge", "fdb", "append", mac(254), "dev", lab.Device, "dst", "192.168.77.254")
		must(b.IP(fmt.Sprintf("neigh add 10.244.%d.0 lladdr %s dev %s nud permanent", i, mac(i), lab.Device),
			fmt.Sprintf("route add 10.244.%d.0/24 via 10.244.%d.0 dev %s onlink", i, i, lab.Device)))
		b.Run("bridge", "fdb", "append", mac(i), "dev", lab.Device, "dst", fmt.Sprintf("192.168.77.%d", i))
	}
	tally := &pathTally{states: map[nodes.PathState]int{}}
	var group sync.WaitGroup
	for i, n := range askers {
		group.Go(func() {
			senders := []nodes.PathSender{{Source: netip.AddrFrom4([4]byte{10, 244, byte(i + 1), 0}), Interface: lab.Device}}
			if err := tally.rounds(n.NS, netip.MustParseAddr("10.244.254.0"), senders, max(1, *pathRounds/crowd),
				1); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	t.Logf("%v, %d of %d packets answered", tally.states, tally.packets.Answered, tally.packets.Sent)
	if len(tally.faults) > 0 || tally.states[nodes.PathOK] < *pathRounds*9/10 {
		t.Errorf("%v, false: %+v", tally.states, tally.faults)
	}
}
