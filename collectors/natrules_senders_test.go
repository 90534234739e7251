package collectors

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/test/lab/labtest"
)

// TestNATRulesSenders: whose packets enter the tunnel, and how they and the outer ones leave, decides which rules they
// meet. What each setting does to a real request was measured on two nodes: those with a change stall, the others do
// not.
func TestNATRulesSenders(t *testing.T) {
	const (
		pods = "link add cni0 type veth peer name pod\naddr add 10.244.0.1/24 dev cni0\nlink set cni0 up\n" +
			"link set pod up\n"
		container = "link add docker0 type bridge\nlink add c0 type veth peer name c1\nlink set c0 master docker0 up\n" +
			"link set c1 up\n" + idle
		secondary = "addr add 192.168.77.50/24 dev eth0\nlink del flannel.1\n" +
			"link add flannel.1 type vxlan id 1 dstport 8472 local 192.168.77.50 dev eth0 nolearning\nlink set flannel.1 up\n" +
			"route add 10.244.1.0/24 dev flannel.1\n"
		pods6 = "ip addr add fd44::1/64 dev cni0 nodad\nip route add fd44:1::/64 dev flannel.1\n" +
			"sysctl -qw net.ipv6.conf.all.forwarding=1\nip6tables -t nat -A POSTROUTING -m mark --mark 0x4000/0x4000 -j " +
			"MASQUERADE\n"
		peer = "bridge fdb append 02:00:00:00:00:02 dev flannel.1 dst "
	)
	for _, c := range []struct {
		name, links, commands, rules string // rules come before kube-proxy's
		change                       natrules.Change
		affected                     string
	}{
		{
			"pods first", pods, "", "-s 10.244.0.0/24 ! -o cni0 -j MASQUERADE", natrules.PortChange,
			"pods or containers in 10.244.0.0/24 (cni0)",
		},
		{
			"pods return", pods, "", "-s 10.244.0.0/16 -d 10.244.0.0/16 -j RETURN", natrules.PortChange,
			"pods or containers in 10.244.0.0/24 (cni0)",
		},
		{
			"one pod", pods, "", "-s 10.244.0.3/32 -j MASQUERADE", natrules.PortChange,
			"pods or containers in 10.244.0.3 (cni0)",
		},
		{"nobody's prefix", pods, "", "-s 10.244.9.0/24 -j MASQUERADE", natrules.NoChange, ""},
		{
			"containers", container, "", "-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", natrules.PortChange,
			"pods or containers in 172.17.0.0/16 (docker0)",
		},
		{
			"an idle bridge", "link add docker0 type bridge\n" + idle, "", "-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
			natrules.NoChange, "",
		},
		{
			"containers without a way", container + "rule add from 172.17.0.0/16 prohibit\n", "",
			"-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", natrules.NoChange, "",
		},
		{
			"containers whose packets are dropped", container, "iptables -A FORWARD -i docker0 -d 10.244.0.0/16 -j DROP",
			"-s 172.17.0.0/16 ! -o docker0 -j MASQUERADE", natrules.NoChange, "",
		},
		{
			"no forwarding", pods, "sysctl -qw net.ipv4.ip_forward=0", "-s 10.244.0.0/24 ! -o cni0 -j MASQUERADE",
			natrules.NoChange, "",
		},
		{"a secondary address", secondary, peer + "192.168.77.2", "-o eth0 -j MASQUERADE", natrules.AddrChange, ""},
		{
			"a secondary address, SNAT to itself", secondary, peer + "192.168.77.2", "-o eth0 -j SNAT --to-source 192.168.77.50",
			natrules.NoChange, "",
		},
		{
			"a device's rule behind a bridge", "link add br-vx type bridge\nlink set flannel.1 master br-vx\n" +
				"link set br-vx up\nroute replace 10.244.1.0/24 dev br-vx\nroute replace 10.244.2.0/24 dev br-vx\n", "",
			"-o flannel.1 -j MASQUERADE", natrules.NoChange, "",
		},
		{
			"a bridge's rule", "link add br-vx type bridge\nlink set flannel.1 master br-vx\nlink set br-vx up\n" +
				"route replace 10.244.1.0/24 dev br-vx\nroute replace 10.244.2.0/24 dev br-vx\n", "",
			"-o br-vx -j MASQUERADE", natrules.PortChange, "",
		},
		{
			"a user", pods, "", "-m owner --uid-owner 65534 -j MASQUERADE --random-fully", natrules.PortChange,
			"host processes of uid 65534",
		},
		{
			"packets without a socket", pods, "", "-o eth0 -m owner ! --socket-exists -j MASQUERADE --random-fully",
			natrules.PortChange, "pods or containers in 10.244.0.0/24 (cni0)",
		},
		{"a set of all pods but those beyond the tunnel", pods, "ipset create s hash:net\nipset add s 10.244.0.0/16\n" +
			"ipset add s 10.244.0.0/22 nomatch", "-m set --match-set s dst -j RETURN", natrules.NoChange, ""},
		{
			"a set of all pods but a part of those beyond the tunnel", pods,
			"ipset create s hash:net\nipset add s 10.244.0.0/16\nipset add s 10.244.1.0/25 nomatch",
			"-m set --match-set s dst -j RETURN", natrules.PortChange, "",
		},
		{
			"a set of local services' pods", pods, "ipset create s hash:ip,port\nipset add s 10.244.0.2,tcp:80",
			"-m set --match-set s dst,dst -j RETURN", natrules.NoChange, "",
		},
		{
			"a set of services' pods", pods, "ipset create s hash:ip,port\nipset add s 10.244.1.3,tcp:80",
			"-m set --match-set s dst,dst -j RETURN", natrules.UnsureChange, "",
		},
		{"a list of sets of local pods", pods, "ipset create m bitmap:ip range 10.244.0.0/24\nipset add m 10.244.0.2\n" +
			"ipset create s list:set\nipset add s m", "-m set --match-set s dst -j RETURN", natrules.NoChange, ""},
		{"a list of sets", pods, "ipset create m bitmap:ip range 10.244.0.0/16\nipset add m 10.244.1.2\n" +
			"ipset create s list:set\nipset add s m", "-m set --match-set s dst -j RETURN", natrules.PortChange, ""},
		{
			"a set with a mask", pods, peer + "192.168.77.2\nipset create s hash:ip netmask 24\nipset add s 192.168.77.0",
			"-p udp -m set --match-set s dst -j MASQUERADE --random-fully", natrules.PortChange, "",
		},
		{
			"a set of ports", pods, "ipset create s bitmap:port range 8000-9000\nipset add s 8472",
			"-p udp -m set --match-set s dst -j MASQUERADE --random-fully", natrules.PortChange, "",
		},
		{
			"a set of other ports", pods, "ipset create s bitmap:port range 4000-9000\nipset add s 4789",
			"-o eth0 -p udp -m set --match-set s dst -j MASQUERADE --random-fully", natrules.NoChange, "",
		},
		{
			"a peer at another port", pods, peer + "192.168.77.2 port 4789", "-p udp --dport 4789 -j MASQUERADE --random-fully",
			natrules.PortChange, "",
		},
		{"IPsec for others", pods, "ip xfrm policy add src 0.0.0.0/0 dst 192.0.2.0/24 dir out tmpl dst 192.0.2.1 proto esp " +
			"mode tunnel", "-m policy --dir out --pol ipsec -j ACCEPT", natrules.NoChange, ""},
		{"IPsec to the other pods", pods, "ip xfrm policy add src 0.0.0.0/0 dst 10.244.1.0/24 dir out tmpl dst 192.0.2.1 " +
			"proto esp mode tunnel", "-m policy --dir out --pol ipsec -j ACCEPT", natrules.UnsureChange, ""},
		{
			"IPsec lets the other pods pass", pods, "ip xfrm policy add src 0.0.0.0/0 dst 10.244.1.0/24 dir out",
			"-s 10.244.0.0/24 -m policy --dir out --pol none -j ACCEPT", natrules.PortChange,
			"pods or containers in 10.244.0.0/24 (cni0)",
		},
		{"IPv6 pods", pods, pods6, "-d 192.0.2.1 -j RETURN", natrules.PortChange, "pods or containers in fd44::/64 (cni0)"},
		{
			"IPv6 pods, not forwarded", pods, pods6 + "sysctl -qw net.ipv6.conf.all.forwarding=0", "-d 192.0.2.1 -j RETURN",
			natrules.NoChange, "",
		},
		{"no route", pods, "ip route flush dev flannel.1", "-s 10.244.0.0/24 -j RETURN", natrules.NoChange, ""},
		{
			"peers in two ranges", "route add 172.16.0.0/16 via 192.168.77.2\n", peer + "172.16.7.7",
			"-d 192.168.0.0/16 -j RETURN\n-A POSTROUTING -d 172.16.0.0/12 -j RETURN\n" +
				"-A POSTROUTING -p udp -j MASQUERADE --random-fully", natrules.NoChange, "",
		},
		{
			"a peer outside", "route add 203.0.113.0/24 via 192.168.77.2\n", peer + "203.0.113.7",
			"-p udp ! -d 192.168.0.0/16 -j MASQUERADE --random-fully", natrules.PortChange, "",
		},
	} {
		t.Run(strings.ReplaceAll(c.name, " ", "_"), func(t *testing.T) {
			if strings.Contains(c.rules, "--uid-owner") {
				labtest.NeedRoot(t, "a rule of another user")
			}
			ns, n := natNode(t)
			ns.Run("sysctl", "-qw", "net.ipv4.ip_forward=1")
			ns.RunInput(c.links, "ip", "-batch", "-")
			for command := range strings.Lines(c.commands) {
				ns.Run(strings.Fields(command)...)
			}
			ns.Do(func() error {
				link, err := net.InterfaceByName("flannel.1")
				if err == nil {
					n.Devices[0].Index = link.Index
				}
				return err
			})
			if c.links == secondary {
				n.Devices[0].Local = netip.MustParseAddr("192.168.77.50")
			}
			ns.RunInput(strings.Replace(natFixed, "-A POSTROUTING", "-A POSTROUTING "+c.rules+"\n-A POSTROUTING", 1),
				"iptables-nft-restore")
			observeNAT(t, ns, NewNATRules(NATRulesConfig{ProcNet: "/proc/thread-self/net"}), n)
			o := n.NATRules.Outer[0]
			if o.Change != c.change {
				t.Errorf("%s (%s, %+v), want %s; %+v", o.Change, o.Why, o.Rule, c.change, o.Senders)
			}
			var affected []string
			for _, s := range o.Senders {
				if s.Change != natrules.NoChange {
					affected = append(affected, s.Sender)
				}
			}
			if c.affected != "" && strings.Join(affected, ";") != c.affected {
				t.Errorf("affected %q, want %q", affected, c.affected)
			}
		})
	}
}

const idle = "addr add 172.17.0.1/16 dev docker0\nlink set docker0 up\n"
