package probe_test

import (
	"context"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/internal/probe"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

func TestMain(m *testing.M) {
	labtest.Enter()
	labtest.Parallel("8")
	m.Run()
}

// asker asks from a namespace.
type asker struct {
	capabilities uint32       // that are left; 0: all
	peers        []netip.Addr // empty: from the neighbor table
	timeout      time.Duration
}

func (a asker) ask(t testing.TB, n *lab.NS) (p node.Path) {
	t.Helper()
	err := n.Do(func() (err error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 20*time.Second)
		defer cancel()
		devices, err := readDevices(ctx)
		if err != nil {
			return err
		}
		if a.capabilities != 0 { // of this thread, which ends with the function
			left := unix.CapUserData{Effective: a.capabilities, Permitted: a.capabilities}
			if err := unix.Capset(&unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3},
				&[]unix.CapUserData{left, {}}[0]); err != nil {
				return err
			}
		}
		found, err := probe.Find(ctx, probe.Config{Devices: devices, Peers: a.peers, Mark: probe.DefaultMark})
		if err != nil {
			return err
		}
		o := probe.Options{Count: probe.DefaultCount, Timeout: probe.DefaultTimeout}
		if a.timeout != 0 {
			o.Timeout = a.timeout
		}
		p = found.Round(ctx, found.Targets, o)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func readDevices(ctx context.Context) ([]node.Device, error) {
	c, err := rtnl.Dial(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	links, err := c.Links()
	if err != nil {
		return nil, err
	}
	features := ethtool.NewClient(nil)
	var devices []node.Device
	for _, l := range links {
		d := node.Device{Link: l, Underlay: lab.Underlay}
		if d.Features, err = features.Features(ctx, ethtool.Device{Index: l.Index, Name: l.Name}); err != nil {
			return nil, err
		}
		devices = append(devices, d)
	}
	return devices, nil
}

// states are those of the senders, by interface.
func states(t testing.TB, p node.Path) map[string]node.PathState {
	t.Helper()
	if len(p.Peers) != 1 {
		t.Fatalf("%d peers: %+v", len(p.Peers), p)
	}
	of := map[string]node.PathState{}
	for _, s := range p.Peers[0].Senders {
		of[s.Interface] = s.State
		for _, n := range []int{s.Plain.Sent + s.PlainSoftware.Sent + s.Marked.Sent + s.MarkedSoftware.Sent} {
			if n > 12 {
				t.Errorf("%d small packets from %s", n, s.Source)
			}
		}
	}
	if p.Duration > 3*time.Second {
		t.Logf("took %s", p.Duration)
	}
	return of
}

func expect(t testing.TB, p node.Path, want node.PathState) {
	t.Helper()
	for from, state := range states(t, p) {
		if state != want {
			t.Errorf("from %s: %s, want %s: %+v", from, state, want, p.Peers[0])
		}
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// firewalls are what a peer's may do to the probe; %s is iptables or ip6tables.
var firewalls = map[string]string{
	"open":      "",
	"no echo":   "-A INPUT -p icmp --icmp-type echo-request -j DROP\n",
	"no TCP":    "-A INPUT -p tcp --dport 9 -j DROP\n",
	"UDP only":  "-A INPUT -p icmp --icmp-type echo-request -j DROP\n-A INPUT -p tcp --dport 9 -j DROP\n",
	"no ICMP":   "-A INPUT -p icmp --icmp-type echo-request -j DROP\n-A OUTPUT -p icmp -j DROP\n",
	"echo only": "-A INPUT -p tcp --dport 9 -j DROP\n-A INPUT -p udp --dport 9 -j DROP\n",
	"silent":    "-A INPUT -i " + lab.Device + " -j DROP\n",
	// firewalld and RHEL's iptables service: what is not allowed is refused, with an error that is limited.
	"prohibiting": "-A INPUT -i " + lab.Device + " -p icmp -j ACCEPT\n-A INPUT -i " + lab.Device +
		" -j REJECT --reject-with icmp-host-prohibited\n",
}

func TestFaultsAndFirewalls(t *testing.T) {
	t.Parallel()
	const nat, ok, unknown = node.PathNAT, node.PathOK, node.PathUnknown
	type wants struct{ live, fixed node.PathState }
	for name, want := range map[string]wants{
		"open":        {nat, ok},
		"no echo":     {nat, ok},
		"no TCP":      {nat, ok},
		"UDP only":    {nat, ok},
		"no ICMP":     {unknown, ok},
		"echo only":   {unknown, unknown},
		"silent":      {node.PathUnreachable, node.PathUnreachable},
		"prohibiting": {nat, ok},
	} {
		for fault, o := range map[string]lab.Options{"live": lab.LiveFailure(), "fixed": lab.LiveFailure()} {
			t.Run(name+"/"+fault, func(t *testing.T) {
				t.Parallel()
				expected := want.live
				if fault == "fixed" {
					o.Rules, expected = lab.RulesFixed, want.fixed
				}
				r := labtest.NewRig(t, o)
				if rules := firewalls[name]; rules != "" {
					_, err := r.B.RunInput("*filter\n"+rules+"COMMIT\n", "iptables-legacy-restore", "-n")
					must(t, err)
				}
				expect(t, asker{}.ask(t, r.A), expected)
			})
		}
	}
}

func TestVariants(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*lab.Options)
		want   node.PathState
	}{
		"imitated A": {func(o *lab.Options) { o.UDPChecksum, o.ImitateA = false, true }, node.PathNAT},
		"imitated A, offload off": {
			func(o *lab.Options) { o.UDPChecksum, o.ImitateA, o.TxChecksum = false, true, false },
			node.PathOK,
		},
		"IPv6 underlay":        {func(o *lab.Options) { o.Family = lab.IPv6 }, node.PathNAT},
		"IPv6 underlay, fixed": {func(o *lab.Options) { o.Family, o.Rules = lab.IPv6, lab.RulesFixed }, node.PathOK},
		"offload off":          {func(o *lab.Options) { o.TxChecksum = false }, node.PathOK},
		"not random":           {func(o *lab.Options) { o.RandomFully = false }, node.PathOK},
		"bypassed":             {func(o *lab.Options) { o.Rules = lab.RulesBypassed }, node.PathNAT},
		"nftables mode, old":   {func(o *lab.Options) { o.Rules = lab.RulesNFTablesOld }, node.PathNAT},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := lab.LiveFailure()
			c.change(&o)
			p := asker{}.ask(t, labtest.NewRig(t, o).A)
			if name == "bypassed" && states(t, p)["eth0"] == node.PathOffload {
				return // every flow is NATed, marked or not
			}
			expect(t, p, c.want)
		})
	}
}

// With CAP_NET_ADMIN alone, as the unit has it, and without it.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	const netAdmin, chown = 1 << unix.CAP_NET_ADMIN, 1 << unix.CAP_CHOWN
	for name, c := range map[string]struct {
		capabilities uint32
		groups       string
		want         node.PathState
		limits       int
	}{
		"CAP_NET_ADMIN":                  {netAdmin, "1 0", node.PathNAT, 0},
		"CAP_NET_ADMIN and ping sockets": {netAdmin, "0 2147483647", node.PathNAT, 0},
		"none":                           {chown, "1 0", node.PathUnknown, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			labtest.NeedRoot(t, "net.ipv4.ping_group_range takes groups of this user namespace only")
			r := labtest.NewRig(t, lab.LiveFailure())
			must(t, r.A.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte(c.groups), 0) }))
			p := asker{capabilities: c.capabilities}.ask(t, r.A)
			expect(t, p, c.want)
			if len(p.Limits) != c.limits {
				t.Errorf("limits: %q", p.Limits)
			}
		})
	}
}

// dualStack gives both ends of the tunnel an IPv6 overlay address and returns B's.
func dualStack(t testing.TB, r *lab.Rig) netip.Addr {
	t.Helper()
	must(t, r.A.IP("addr add fd00:10:244::a/128 dev "+lab.Device+" nodad",
		"neigh add fd00:10:244:1::b lladdr 02:76:78:00:00:0b dev "+lab.Device+" nud permanent",
		"route add fd00:10:244:1::/64 via fd00:10:244:1::b dev "+lab.Device+" onlink"))
	must(t, r.B.IP("addr add fd00:10:244:1::b/128 dev "+lab.Device+" nodad",
		"neigh add fd00:10:244::a lladdr 02:76:78:00:00:0a dev "+lab.Device+" nud permanent",
		"route add fd00:10:244::/64 via fd00:10:244::a dev "+lab.Device+" onlink"))
	return netip.MustParseAddr("fd00:10:244:1::b")
}

func TestIPv6Overlay(t *testing.T) {
	t.Parallel()
	for _, underlay := range []lab.Family{lab.IPv4, lab.IPv6} {
		for rules, want := range map[lab.Rules]node.PathState{lab.RulesOld: node.PathNAT, lab.RulesFixed: node.PathOK} {
			for capability, left := range map[string]uint32{"all": 0, "CAP_NET_ADMIN": 1 << unix.CAP_NET_ADMIN} {
				t.Run(strings.Join([]string{string(underlay), string(rules), capability}, "/"), func(t *testing.T) {
					t.Parallel()
					o := lab.LiveFailure()
					o.Family, o.Rules = underlay, rules
					r := labtest.NewRig(t, o)
					peer := dualStack(t, r)
					p := asker{capabilities: left, peers: []netip.Addr{peer}}.ask(t, r.A)
					// The NIC's own address is not in the overlay: the peer answers it outside the tunnel, or cannot.
					if s := states(t, p); s[lab.Device] != want || (s[lab.Underlay] != want && s[lab.Underlay] != node.PathUnknown) {
						t.Errorf("%v, want %s: %+v", s, want, p.Peers[0])
					}
				})
			}
		}
	}
}

// A link in the middle that is smaller than the tunnel needs drops without a word.
func TestBlackHole(t *testing.T) {
	t.Parallel()
	for _, capability := range []uint32{0, 1 << unix.CAP_NET_ADMIN} {
		o := lab.LiveFailure()
		o.Rules = lab.RulesFixed
		r := labtest.NewRig(t, o)
		must(t, r.B.IP("link set "+lab.Underlay+" mtu 1400"))
		p := asker{capabilities: capability}.ask(t, r.A)
		if s := states(t, p); s[lab.Device] != node.PathMTU || p.Peers[0].Size != 1450 || p.Peers[0].Full.Answered != 0 {
			t.Errorf("%+v", p.Peers[0])
		}
	}
}

// Where the VXLAN device is a port of a bridge, peers are the bridge's neighbors whose link-layer address the tunnel
// knows.
func TestBridge(t *testing.T) {
	t.Parallel()
	for rules, want := range map[lab.Rules]node.PathState{lab.RulesOld: node.PathNAT, lab.RulesFixed: node.PathOK} {
		t.Run(string(rules), func(t *testing.T) {
			t.Parallel()
			o := lab.LiveFailure()
			o.Rules = rules
			r := labtest.NewRig(t, o)
			must(t, r.A.IP("link add br-vx address 02:76:78:00:00:0a type bridge", "link set "+lab.Device+" master br-vx",
				"link set br-vx mtu 1450 up",
				"addr flush dev "+lab.Device, "addr add 10.244.0.0/32 dev br-vx",
				"route add 10.244.1.0/24 via 10.244.1.0 dev br-vx onlink",
				"neigh add 10.244.1.0 lladdr 02:76:78:00:00:0b dev br-vx nud permanent",
				"neigh add 10.244.0.77 lladdr 02:00:00:00:00:77 dev br-vx nud permanent"))
			expect(t, asker{}.ask(t, r.A), want)
		})
	}
}
