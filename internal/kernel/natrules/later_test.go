package natrules

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"vxlan_exporter/internal/kernel/label"
	"vxlan_exporter/test/lab/labtest"
)

// podsAndNode is a port that pods behind cni0 and the node itself send to, with what both families have alike.
func podsAndNode(ipv6 bool) Port {
	prefix := func(s string) []netip.Prefix { return []netip.Prefix{netip.MustParsePrefix(s)} }
	pods, node, overlay, local := prefix("10.244.0.0/24"), prefix("10.0.0.11/32"), prefix("10.244.1.0/24"), netip.MustParseAddr("10.0.0.11")
	if ipv6 {
		pods, node, overlay, local = prefix("fd00:244::/64"), prefix("fd00:10::11/128"), prefix("fd00:244:0:1::/64"), netip.MustParseAddr("fd00:10::11")
	}
	out := Interface{Name: "flannel.1", Index: 5}
	return Port{
		Port: vxlanPort, IPv4: !ipv6, IPv6: ipv6, Devices: []Interface{out}, Own: []netip.Addr{local},
		Senders: func(six bool, _ uint32) []Sender {
			if six != ipv6 {
				return nil
			}
			return []Sender{
				{Sources: node, Out: out, Destinations: overlay},
				{In: []Interface{{Name: "cni0", Index: 6}}, Sources: pods, Out: out, Destinations: overlay},
			}
		},
		Ways: func(bool, uint32) []Way {
			return []Way{{Out: Interface{Name: "eth0", Index: 2, Addrs: []netip.Addr{local}}, Source: local, Masquerade: local}}
		},
	}
}

// TestLaterPackets: a mark that later packets of a connection get, from the connection or from a rule for every packet, is not cleared by
// the nat table, which they do not see.
func TestLaterPackets(t *testing.T) {
	const kube = `*nat
:KUBE-POSTROUTING - [0:0]
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark BIT/BIT -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark BIT/0x0
-A KUBE-POSTROUTING -j MASQUERADE RANDOM
COMMIT
`
	iptables := func(rules ...string) string { return "*mangle\n" + strings.Join(rules, "\n") + "\nCOMMIT\n" }
	const save, restore = "-A POSTROUTING -j CONNMARK --save-mark", "-A PREROUTING -j CONNMARK --restore-mark"
	for _, c := range []struct {
		name, rules string
		nft         bool
		bit, random string
		why         Why
		sender      string // whose connections stall
		quotes      string
	}{
		{name: "saved and restored", rules: iptables(restore, save), why: WhyRestored, sender: "pods", quotes: "-j CONNMARK --restore-mark"},
		{name: "bit 15", rules: iptables(restore, save), bit: "0x8000", why: WhyRestored, sender: "pods"},
		{name: "for what the node sends", rules: iptables("-A OUTPUT -p tcp -j CONNMARK --restore-mark", save), why: WhyRestored, sender: "the node"},
		{name: "the outer packet loses it again", rules: iptables("-A OUTPUT -j CONNMARK --restore-mark", save), why: WhyCleared},
		{name: "saved on the way", rules: iptables(restore, "-A FORWARD -j CONNMARK --save-mark"), why: WhyRestored, sender: "pods"},
		{name: "only established", rules: iptables("-A PREROUTING -m conntrack --ctstate ESTABLISHED,RELATED -j CONNMARK --restore-mark", save), why: WhyRestored, sender: "pods"},
		{name: "only new", rules: iptables("-A PREROUTING -m conntrack --ctstate NEW -j CONNMARK --restore-mark", save), why: WhyCleared},
		{name: "if the connection has a mark", rules: iptables("-A PREROUTING -m connmark ! --mark 0x0 -j CONNMARK --restore-mark", save), why: WhyRestored, sender: "pods"},
		{name: "a mask that has the bit", rules: iptables("-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xffff --ctmask 0xffff", save), why: WhyRestored, sender: "pods", quotes: "--nfmask 0xffff --ctmask 0xffff"},
		{name: "a mask that leaves the bit out, at restore", rules: iptables("-A PREROUTING -j CONNMARK --restore-mark --nfmask 0xff --ctmask 0xff", save), why: WhyCleared},
		{name: "a mask that leaves the bit out, at save", rules: iptables(restore, "-A POSTROUTING -j CONNMARK --save-mark --nfmask 0xff0000 --ctmask 0xff0000"), why: WhyCleared},
		{name: "saved, and never restored", rules: iptables(save), why: WhyCleared},
		{name: "restored, and never saved", rules: iptables(restore), why: WhyCleared},
		{name: "saved before the mark is there", rules: iptables(restore, "-A PREROUTING -j CONNMARK --save-mark"), why: WhyCleared},
		{name: "another interface", rules: iptables("-A PREROUTING -i eth0 -j CONNMARK --restore-mark", save), why: WhyCleared},
		{name: "another mark", rules: iptables(restore, "-A PREROUTING -i eth0 -j CONNMARK --set-mark 0x1"), why: WhyCleared},
		{name: "MASQUERADE keeps the port", rules: iptables(restore, save), random: "none", why: WhyCleared},
		{name: "cleared for the tunnel", rules: iptables(restore, save, "-A OUTPUT -p udp --dport 8472 -j MARK --set-xmark 0x0/0x4000"), why: WhyCleared},
		{name: "not tracked", rules: iptables(restore, save) + "*raw\n-A OUTPUT -p udp --dport 8472 -j NOTRACK\nCOMMIT\n", why: WhyNotrack},
		{name: "every packet is marked", rules: iptables("-A PREROUTING -i cni0 -j MARK --set-xmark BIT/BIT"), why: WhyRestored, sender: "pods", quotes: "-j MARK --set-xmark 0x4000/0x4000"},
		{name: "every packet is marked, bit 15", rules: iptables("-A FORWARD -o flannel.1 -j MARK --set-xmark BIT/BIT"), bit: "0x8000", why: WhyRestored, sender: "pods"},
		{name: "every packet of the node is marked", rules: iptables("-A OUTPUT -p tcp -j MARK --set-xmark BIT/BIT"), why: WhyRestored, sender: "the node"},
		{name: "every packet is marked, with another bit", rules: iptables("-A PREROUTING -i cni0 -j MARK --set-xmark 0x40000/0x40000"), why: WhyCleared},
		{name: "every packet of others is marked", rules: iptables("-A FORWARD -i eth0 -j MARK --set-xmark BIT/BIT"), why: WhyCleared},
		{name: "the first packet is marked", rules: iptables("-A PREROUTING -i cni0 -m conntrack --ctstate NEW -j MARK --set-xmark BIT/BIT"), why: WhyCleared},
		{name: "nft", nft: true, rules: "chain pre { type filter hook prerouting priority mangle; meta mark set ct mark; }\n" +
			"chain post { type filter hook postrouting priority mangle; ct mark set meta mark; }", why: WhyRestored, sender: "pods", quotes: "meta mark set ct mark"},
		{name: "nft, for what the node sends", nft: true, rules: "chain out { type route hook output priority mangle; ct mark != 0 meta mark set ct mark; }\n" +
			"chain post { type filter hook postrouting priority mangle; ct mark set meta mark; }", why: WhyRestored, sender: "the node"},
		{name: "nft, only established", nft: true, rules: "chain pre { type filter hook prerouting priority mangle; ct state established,related meta mark set ct mark; }\n" +
			"chain post { type filter hook postrouting priority mangle; ct mark set meta mark; }", why: WhyRestored, sender: "pods"},
		{name: "nft, masked", nft: true, rules: "chain pre { type filter hook prerouting priority mangle; meta mark set ct mark and 0xff; }\n" +
			"chain post { type filter hook postrouting priority mangle; ct mark set meta mark; }", why: WhyCleared},
		{name: "nft, saved masked", nft: true, rules: "chain pre { type filter hook prerouting priority mangle; meta mark set ct mark; }\n" +
			"chain post { type filter hook postrouting priority mangle; ct mark set meta mark and 0xffff0000; }", why: WhyCleared},
	} {
		for _, six := range []bool{false, true} {
			for _, backend := range []string{"nft", "legacy"} {
				if backend == "legacy" && c.nft {
					continue
				}
				family, command := label.IPv4, "iptables-"+backend+"-restore"
				if six {
					family, command = label.IPv6, "ip6tables-"+backend+"-restore"
				}
				t.Run(fmt.Sprintf("%s/%s/%s", c.name, family, backend), func(t *testing.T) {
					ns := labtest.New(t, "later")
					bit, random := c.bit, c.random
					if bit == "" {
						bit = "0x4000"
					}
					if random == "" {
						random = "--random-fully"
					}
					ns.RunInput(strings.NewReplacer("BIT", bit, "RANDOM", strings.TrimPrefix(random, "none")).Replace(kube), command)
					if c.nft {
						ns.RunInput(fmt.Sprintf("table %s m {\n%s\n}\n", map[bool]string{false: "ip", true: "ip6"}[six], c.rules), "nft", "-f", "-")
					} else {
						ns.RunInput(strings.ReplaceAll(c.rules, "BIT", bit), command, "--noflush")
					}
					var s State
					ns.Do(func() (err error) {
						s, err = NewReader(Config{ProcNet: "/proc/thread-self/net"}).Read(t.Context(), Input{Ports: []Port{podsAndNode(six)}})
						return err
					})
					o := s.Outer[0]
					if o.Why != c.why || (c.why == WhyRestored) != (o.Change == PortChange) {
						t.Errorf("%s because of %s (%+v), want %s", o.Change, o.Why, o.Rule, c.why)
					}
					if c.quotes != "" && (o.Rule == nil || o.Rule.Role != RoleRestores || !strings.Contains(o.Rule.Text, c.quotes)) {
						t.Errorf("rule %+v, want one with %q", o.Rule, c.quotes)
					}
					for _, f := range o.Senders {
						if stalls := c.sender != "" && strings.HasPrefix(f.Sender, c.sender); stalls != (f.Change == PortChange) {
							t.Errorf("%s: %s, want another's connections to stall: %q", f.Sender, f.Change, c.sender)
						}
					}
				})
			}
		}
	}
}
