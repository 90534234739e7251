package collectors

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab/labtest"
)

const natFixed = `*nat
:KUBE-POSTROUTING - [0:0]
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
`

// natFlannel is what flannel adds; whether it matches depends on where inner and outer packets come from and go to.
const natFlannel = `*nat
:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/24 -d 10.244.0.0/16 -j RETURN
-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s 10.244.0.0/16 -d 10.244.0.0/16 -j MASQUERADE --random-fully
COMMIT
`

const natOld = `*nat
:KUBE-POSTROUTING - [0:0]
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE
COMMIT
`

// natNode makes a namespace with a VXLAN device as flannel leaves it, and the node that the other collectors would see.
func natNode(t *testing.T) (*labtest.NS, *node.Node) {
	t.Helper()
	ns := labtest.New(t, "natrules")
	for _, command := range []string{
		"ip link add eth0 type veth peer name far", "ip addr add 192.168.77.1/24 dev eth0", "ip link set eth0 up",
		"ip link set far up",
		"ip link add flannel.1 type vxlan id 1 dstport 8472 local 192.168.77.1 dev eth0 nolearning",
		"ip addr add 10.244.0.0/32 dev flannel.1",
		"ip link set flannel.1 up", "ip route add 10.244.1.0/24 dev flannel.1", "ip route add 10.244.2.0/24 dev flannel.1",
		"bridge fdb append 02:00:00:00:00:02 dev flannel.1 dst 192.168.77.2",
		"bridge fdb append 02:00:00:00:00:03 dev flannel.1 dst 192.168.77.3",
	} {
		ns.Run(strings.Fields(command)...)
	}
	n := &node.Node{Ports: []node.Port{{Port: 8472, IPv4: true, Device: true}}}
	ns.Do(func() error {
		link, err := net.InterfaceByName("flannel.1")
		if err != nil {
			return err
		}
		// UnderlayIndex is left out, as by a device that names no NIC. Nothing but devices and ports is known to the
		// collector.
		n.Devices = []node.Device{{
			Link:     rtnl.Link{Index: link.Index, Name: "flannel.1", Port: 8472, Local: netip.MustParseAddr("192.168.77.1")},
			Underlay: "eth0",
		}}
		return nil
	})
	return ns, n
}

// countingReader counts the readings of a real reader.
type countingReader struct {
	*natrules.Reader
	reads int
	in    natrules.Input
}

func (r *countingReader) Read(ctx context.Context, in natrules.Input) (natrules.State, error) {
	r.reads++
	r.in = in
	return r.Reader.Read(ctx, in)
}

func newCountingReader() *countingReader {
	return &countingReader{Reader: natrules.NewReader(natrules.Config{ProcNet: "/proc/thread-self/net"})}
}

func observeNAT(t *testing.T, ns *labtest.NS, c *NATRules, n *node.Node) {
	t.Helper()
	ns.Do(func() error {
		fill, err := c.Observe(t.Context(), n)
		fill(n)
		return err
	})
}

func TestNATRulesMetrics(t *testing.T) {
	ns, n := natNode(t)
	ns.RunInput(natFixed, "iptables-nft-restore")
	ns.RunInput(natFlannel, "iptables-nft-restore", "--noflush")
	ns.RunInput(natOld, "iptables-legacy-restore")
	ns.RunInput(natOld, "ip6tables-legacy-restore") // no VXLAN on IPv6 here
	c := NewNATRules(NATRulesConfig{ProcNet: "/proc/thread-self/net"})
	observeNAT(t, ns, c, n)
	r := prometheus.NewRegistry()
	r.MustRegister(natPublisher{c, n})
	text, err := exposition(r)
	if err != nil {
		t.Fatal(err)
	}
	const want = `vxlan_nat_masquerade_mark_state{backend="legacy",family="ipv4",state="absent"} 0
vxlan_nat_masquerade_mark_state{backend="legacy",family="ipv4",state="bypassed"} 0
vxlan_nat_masquerade_mark_state{backend="legacy",family="ipv4",state="cleared"} 0
vxlan_nat_masquerade_mark_state{backend="legacy",family="ipv4",state="kept"} 1
vxlan_nat_masquerade_mark_state{backend="legacy",family="ipv6",state="absent"} 0
vxlan_nat_masquerade_mark_state{backend="legacy",family="ipv6",state="bypassed"} 0
vxlan_nat_masquerade_mark_state{backend="legacy",family="ipv6",state="cleared"} 0
vxlan_nat_masquerade_mark_state{backend="legacy",family="ipv6",state="kept"} 1
vxlan_nat_masquerade_mark_state{backend="nft",family="ipv4",state="absent"} 0
vxlan_nat_masquerade_mark_state{backend="nft",family="ipv4",state="bypassed"} 0
vxlan_nat_masquerade_mark_state{backend="nft",family="ipv4",state="cleared"} 1
vxlan_nat_masquerade_mark_state{backend="nft",family="ipv4",state="kept"} 0
vxlan_nat_random_fully{backend="legacy",family="ipv4"} 0
vxlan_nat_random_fully{backend="legacy",family="ipv6"} 0
vxlan_nat_random_fully{backend="nft",family="ipv4"} 1`
	if got := series(text); got != want {
		t.Errorf("got\n%s\nwant\n%s\nof %+v", got, want, n.NATRules)
	}
}

type natPublisher struct {
	*NATRules
	n *node.Node
}

func (p natPublisher) Collect(ch chan<- prometheus.Metric) { p.Publish(p.n, ch) }

// TestNATRulesInput: addresses, routes and the forwarding database become the facts that rules are judged by.
func TestNATRulesInput(t *testing.T) {
	ns, n := natNode(t)
	reader := newCountingReader()
	observeNAT(t, ns, NewNATRules(NATRulesConfig{Reader: reader}), n)
	p := reader.in.Ports[0]
	addr := netip.MustParseAddr
	senders, ways := p.Senders(false, 0), p.Ways(false, 0)
	if len(senders) != 1 || len(ways) != 1 || len(p.Senders(true, 0)) != 0 {
		t.Fatalf("senders %+v, ways %+v", senders, ways)
	}
	for _, c := range []struct {
		what string
		ok   bool
	}{
		{"the node's address", len(senders[0].Sources) == 1 &&
			senders[0].Sources[0] == netip.PrefixFrom(addr("192.168.77.1"), 32)},
		{"into the tunnel", senders[0].Out.Name == "flannel.1" && len(senders[0].Destinations) == 2},
		{"out of the node", ways[0].Out.Name == "eth0" && ways[0].Source == addr("192.168.77.1") &&
			ways[0].Masquerade == addr("192.168.77.1")},
		{"peers", len(ways[0].Peers) == 2 && ways[0].Peers[0].Next() != ways[0].Peers[1].Next()},
		{"device", len(p.Devices) == 1 && p.Devices[0].Name == "flannel.1"},
	} {
		if !c.ok {
			t.Errorf("%s: senders %+v, ways %+v", c.what, senders, ways)
		}
	}
}

// natCluster clears the mark of what is sent to the pods of 10.244.0.0/16, and of nothing else.
const natCluster = `*nat
:KUBE-POSTROUTING - [0:0]
-A POSTROUTING -d 10.244.0.0/16 -j MARK --set-xmark 0x0/0x4000
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
`

// TestNATRulesRoutes: every way in which a route leads into a device counts. Where none leads into one of them, nothing
// is sent by it, but what is bridged can be anything. What IPv6 carries has its mark for certain: nothing of natCluster
// is there for it.
func TestNATRulesRoutes(t *testing.T) {
	for _, c := range []struct {
		name   string
		setUp  string
		change natrules.Change
	}{
		{"routes of one next hop", "", natrules.NoChange},
		{"another of one next hop", "route add 10.99.0.0/16 dev vx2", natrules.PortChange},
		{"several next hops", "route add 10.99.0.0/16 nexthop dev flannel.1 nexthop dev vx2", natrules.PortChange},
		{"several of the same cluster", "route add 10.244.9.0/24 nexthop dev flannel.1 nexthop dev vx2", natrules.NoChange},
		{"IPv6 siblings", "addr add fd77::1/64 dev eth0 nodad\nroute add fd99::/16 dev flannel.1\n" +
			"route append fd99::/16 dev vx2", natrules.PortChange},
		{"a nexthop object", "nexthop add id 5 dev vx2\nroute add 10.99.0.0/16 nhid 5", natrules.PortChange},
		{"a nexthop object, the same cluster", "nexthop add id 5 dev vx2\nroute add 10.244.9.0/24 nhid 5", natrules.NoChange},
		{"a group", "nexthop add id 5 dev flannel.1\nnexthop add id 6 dev vx2\nnexthop add id 7 group 5/6\n" +
			"route add 10.99.0.0/16 nhid 7", natrules.PortChange},
		{"a group, IPv6", "addr add fd77::1/64 dev eth0 nodad\nnexthop add id 5 via fe80::5 dev flannel.1\n" +
			"nexthop add id 6 via fe80::6 dev vx2\nnexthop add id 7 group 5/6\nroute add fd99::/16 nhid 7", natrules.PortChange},
		{"a device without routes", "link add dev vx3 type vxlan id 3 dstport 8472 local 192.168.77.1 dev eth0\n" +
			"link set vx3 up", natrules.NoChange},
		{"a bridge's device without routes", "link add br0 type bridge\nlink add dev vx3 type vxlan id 3 dstport 8472 " +
			"local 192.168.77.1 dev eth0\nlink set vx3 master br0 up", natrules.PortChange},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			ns, n := natNode(t)
			ns.Run("sysctl", "-qw", "net.ipv4.nexthop_compat_mode=0")
			ns.RunInput("link add dev vx2 type vxlan id 2 dstport 8472 local 192.168.77.1 dev eth0\nlink set vx2 up\n"+
				"route add 10.244.3.0/24 dev vx2\n"+c.setUp+"\n", "ip", "-batch", "-")
			ns.RunInput(natCluster, "iptables-nft-restore")
			ns.RunInput(strings.ReplaceAll(natCluster, "-A POSTROUTING -d 10.244.0.0/16 -j MARK --set-xmark 0x0/0x4000\n", ""),
				"ip6tables-nft-restore")
			ns.Do(func() error {
				for _, name := range []string{"vx2", "vx3"} {
					if link, err := net.InterfaceByName(name); err == nil {
						d := n.Devices[0]
						d.Index, d.Name = link.Index, name
						n.Devices = append(n.Devices, d)
					}
				}
				return nil
			})
			observeNAT(t, ns, NewNATRules(NATRulesConfig{ProcNet: "/proc/thread-self/net"}), n)
			if len(n.NATRules.Outer) != 1 || n.NATRules.Outer[0].Change != c.change {
				t.Errorf("outer %+v, want change %q", n.NATRules.Outer, c.change)
			}
		})
	}
}

// TestNATRulesInterval: rules are read once in the interval, sooner when nf_tables rules changed, at once for other
// devices.
func TestNATRulesInterval(t *testing.T) {
	ns, n := natNode(t)
	ns.RunInput(natFixed, "iptables-nft-restore")
	now := time.Now()
	reader := newCountingReader()
	c := NewNATRules(NATRulesConfig{
		MinInterval: DefaultNATRulesMinInterval, Reader: reader,
		Now: func() time.Time { return now },
	})
	guard := func() natrules.MarkState {
		for _, r := range n.NATRules.Rulesets {
			if r.Family == node.IPv4 && r.Backend == natrules.NFT {
				return r.MarkState
			}
		}
		return ""
	}
	for _, step := range []struct {
		what   string
		change func()
		after  time.Duration
		reads  int
		guard  natrules.MarkState
	}{
		{"first", nil, 0, 1, natrules.MarkCleared},
		{"soon after", nil, time.Second, 1, natrules.MarkCleared},
		{
			"rules changed a moment ago", func() { ns.RunInput(natOld, "iptables-nft-restore") }, time.Second, 1,
			natrules.MarkCleared,
		},
		{"a sixth of the interval later", nil, 8 * time.Second, 2, natrules.MarkKept},
		{"nothing changed", nil, 50 * time.Second, 2, natrules.MarkKept},
		{"after the interval", nil, 11 * time.Second, 3, natrules.MarkKept},
		{"another device", func() { n.Devices[0].Index += 100 }, time.Second, 4, natrules.MarkKept},
		{"the clock went back", nil, -time.Hour, 5, natrules.MarkKept},
	} {
		if step.change != nil {
			step.change()
		}
		now = now.Add(step.after)
		observeNAT(t, ns, c, n)
		if reader.reads != step.reads || guard() != step.guard {
			t.Errorf("%s: %d readings, %s; want %d, %s", step.what, reader.reads, guard(), step.reads, step.guard)
		}
	}
}

// refusedReader is a kernel that refuses.
type refusedReader struct{}

func (refusedReader) Read(context.Context, natrules.Input) (natrules.State, error) {
	return natrules.State{Rulesets: []natrules.Ruleset{{
		Family: node.IPv4, Backend: natrules.NFT,
		Status: node.NotPermitted,
	}}}, fs.ErrPermission
}

func (refusedReader) Generation(context.Context) (uint32, bool) { return 0, false }

func TestNATRulesRefused(t *testing.T) {
	c := NewNATRules(NATRulesConfig{Reader: refusedReader{}, OpenRoute: func() (nl.Socket, error) {
		return nil, errors.New("no netlink")
	}})
	n := &node.Node{Ports: []node.Port{{Port: 8472, IPv4: true}}}
	for range 2 { // the refusal is served again, not forgotten
		fill, err := c.Observe(t.Context(), n)
		if node.Classify(err) != node.NotPermitted {
			t.Errorf("error %v", err)
		}
		fill(n)
	}
	if len(n.NATRules.Rulesets) != 1 {
		t.Errorf("%+v", n.NATRules)
	}
	r := prometheus.NewRegistry()
	r.MustRegister(natPublisher{c, n})
	if text, err := exposition(r); err != nil || text != "" {
		t.Errorf("published %q, %v", text, err)
	}
}

// A judgment keeps the time since when it holds; the first reading knows of none.
func TestNATRulesSince(t *testing.T) {
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	outer := func(why natrules.Why, port uint16) natrules.Outer {
		return natrules.Outer{Family: node.IPv4, Port: port, Change: natrules.NoChange, Why: why}
	}
	var before []natrules.Outer
	for i, step := range []struct {
		why  natrules.Why
		want time.Time
	}{
		{natrules.WhyCleared, time.Time{}},
		{natrules.WhyCleared, time.Time{}},
		{natrules.WhyNotrack, start.Add(2 * time.Minute)},
		{natrules.WhyNotrack, start.Add(2 * time.Minute)},
		{natrules.WhyCleared, start.Add(4 * time.Minute)},
	} {
		now := sinceWhen([]natrules.Outer{outer(natrules.WhyNoRule, 4789), outer(step.why, 8472)}, before,
			start.Add(time.Duration(i)*time.Minute))
		if !now[0].Since.IsZero() || !now[1].Since.Equal(step.want) {
			t.Errorf("reading %d: since %s and %s, want never and %s", i, now[0].Since, now[1].Since, step.want)
		}
		before = now
	}
}
