package natrules

import (
	"fmt"
	"strings"
	"testing"

	"vxlan_exporter/internal/kernel/label"
)

// form is a set of rules as iptables-restore takes it, and what is expected of it. Addresses and options that differ between the
// families are in braces.
type form struct {
	name   string
	tables map[string]string
	guard  MarkState
	random *bool
	change Change
	why    Why
}

const kubeFixed = `:KUBE-POSTROUTING - [0:0]
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
`

const kubeOld = `:KUBE-POSTROUTING - [0:0]
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully
`

var (
	isTrue  = func() *bool { b := true; return &b }()
	isFalse = func() *bool { b := false; return &b }()
)

func forms() []form {
	nat := func(rules string) map[string]string { return map[string]string{"nat": rules} }
	with := func(table, rules, natRules string) map[string]string {
		return map[string]string{"nat": natRules, table: rules}
	}
	return []form{
		{"empty", nat(""), MarkAbsent, nil, NoChange, WhyNoRule},
		{"fixed", nat(kubeFixed), MarkCleared, isTrue, NoChange, WhyCleared},
		{"old", nat(kubeOld), MarkKept, isTrue, PortChange, WhyKept},
		{"old without random", nat(strings.ReplaceAll(kubeOld, " --random-fully", "")), MarkKept, isFalse, NoChange, WhyNotRandom},
		{"old with random", nat(strings.ReplaceAll(kubeOld, "random-fully", "random")), MarkKept, isFalse, PortChange, WhyKept},
		{"fixed without random", nat(strings.ReplaceAll(kubeFixed, " --random-fully", "")), MarkCleared, isFalse, NoChange, WhyCleared},
		{
			"bypassed by all", nat("-A POSTROUTING -j MASQUERADE --random-fully\n" + kubeFixed),
			MarkBypassed, isTrue, PortChange, WhyBypassed,
		},
		{
			"bypassed without random", nat("-A POSTROUTING -j MASQUERADE\n" + kubeFixed),
			MarkBypassed, isTrue, NoChange, WhyNotRandom,
		},
		{
			"bypassed inside the overlay only", nat("-A POSTROUTING ! -s {cluster} -d {cluster} -j MASQUERADE --random-fully\n" + kubeFixed),
			MarkBypassed, isTrue, PortChange, WhyBypassed,
		},
		{
			"masquerade after the guard", nat(kubeFixed + "-A POSTROUTING -o eth0 -j MASQUERADE --random-fully\n"),
			MarkCleared, isTrue, PortChange, WhyBypassed,
		},
		{
			"masquerade of the outer packet before the guard", nat("-A POSTROUTING -o eth0 -j MASQUERADE --random-fully\n" + kubeFixed),
			MarkBypassed, isTrue, PortChange, WhyBypassed,
		},
		{
			"docker", nat("-A POSTROUTING -s {docker} ! -o docker0 -j MASQUERADE\n" + kubeFixed),
			MarkCleared, isTrue, NoChange, WhyCleared,
		},
		{
			"docker-like on the node's own network", nat("-A POSTROUTING -s {node} ! -o docker0 -j MASQUERADE --random-fully\n" + kubeFixed),
			MarkBypassed, isTrue, PortChange, WhyBypassed,
		},
		{
			"flannel", nat(`:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -m mark --mark 0x4000/0x4000 -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s {pods} -d {cluster} -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s {cluster} -d {pods} -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG ! -s {cluster} -d {pods} -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s {cluster} ! -d {multicast} -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s {cluster} -d {cluster} -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
` + kubeFixed), MarkCleared, isTrue, NoChange, WhyCleared,
		},
		{
			"flannel without its return", nat(`:FLANNEL-POSTRTG - [0:0]
-A POSTROUTING -m comment --comment "flanneld masq" -j FLANNEL-POSTRTG
-A FLANNEL-POSTRTG -s {pods} -d {cluster} -m comment --comment "flanneld masq" -j RETURN
-A FLANNEL-POSTRTG -s {cluster} ! -d {multicast} -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
-A FLANNEL-POSTRTG ! -s {cluster} -d {cluster} -m comment --comment "flanneld masq" -j MASQUERADE --random-fully
` + kubeFixed), MarkBypassed, isTrue, PortChange, WhyBypassed,
		},
		{
			"calico tunnel address", nat(`:cali-POSTROUTING - [0:0]
:cali-nat-outgoing - [0:0]
-A POSTROUTING -m comment --comment "cali:O3lYWMrLQYEMJtB5" -j cali-POSTROUTING
-A cali-POSTROUTING -m comment --comment "cali:NVWj2T9ZcFn_1PEg" -j cali-nat-outgoing
-A cali-POSTROUTING -o flannel.1 -m comment --comment "cali:SXWvdsbh4Mw7wOln" -m addrtype ! --src-type LOCAL --limit-iface-out -m addrtype --src-type LOCAL -j MASQUERADE --random-fully
` + kubeFixed), MarkBypassed, isTrue, PortChange, WhyBypassed,
		},
		{"reset in filter", with("filter", "-A OUTPUT -p udp -m udp --dport 8472 -j MARK --set-xmark 0x0/0x4000\n", kubeOld), MarkKept, isTrue, NoChange, WhyMarkReset},
		{"reset in mangle", with("mangle", "-A OUTPUT -p udp -m udp --dport 8472 -j MARK --set-xmark 0x0/0xffffffff\n", kubeOld), MarkKept, isTrue, NoChange, WhyMarkReset},
		{"reset in mangle POSTROUTING", with("mangle", "-A POSTROUTING -p udp -m multiport --dports 4789,8472 -j MARK --and-mark 0xffffbfff\n", kubeOld), MarkKept, isTrue, NoChange, WhyMarkReset},
		{"reset for another port", with("mangle", "-A OUTPUT -p udp -m udp --dport 4789 -j MARK --set-xmark 0x0/0x4000\n", kubeOld), MarkKept, isTrue, PortChange, WhyKept},
		{"reset of another bit", with("filter", "-A OUTPUT -p udp -m udp --dport 8472 -j MARK --set-xmark 0x0/0x8000\n", kubeOld), MarkKept, isTrue, PortChange, WhyKept},
		{"reset that is never reached", with("filter", "-A OUTPUT -o eth+ -j ACCEPT\n-A OUTPUT -p udp --dport 8472 -j MARK --set-xmark 0x0/0x4000\n", kubeOld), MarkKept, isTrue, PortChange, WhyKept},
		{"reset in nat OUTPUT", nat("-A OUTPUT -p udp -m udp --dport 8472 -j MARK --set-xmark 0x0/0x4000\n" + kubeOld), MarkKept, isTrue, NoChange, WhyCleared},
		{"notrack", with("raw", "-A OUTPUT -p udp -m udp --dport 8472 -j CT --notrack\n", kubeOld), MarkKept, isTrue, NoChange, WhyNotrack},
		{"NOTRACK", with("raw", "-A OUTPUT -p udp -m udp --dport 8472 -j NOTRACK\n", "-A POSTROUTING -j MASQUERADE --random-fully\n"), MarkAbsent, nil, NoChange, WhyNotrack},
		{"notrack of another port", with("raw", "-A OUTPUT -p udp -m udp --dport 8473 -j NOTRACK\n", kubeOld), MarkKept, isTrue, PortChange, WhyKept},
		{"snat to itself", nat("-A POSTROUTING -o eth0 -j SNAT --to-source {local}\n" + kubeFixed), MarkCleared, isTrue, NoChange, WhyCleared},
		{"snat to itself at random", nat("-A POSTROUTING -o eth0 -j SNAT --to-source {local} --random\n" + kubeFixed), MarkBypassed, isTrue, PortChange, WhyBypassed},
		{"snat to another", nat("-A POSTROUTING -o eth0 -j SNAT --to-source {other}\n" + kubeFixed), MarkBypassed, isTrue, AddrChange, WhyBypassed},
		{"snat to a range around itself", nat("-A POSTROUTING -o eth0 -j SNAT --to-source {low}-{high}\n"), MarkAbsent, nil, NoChange, WhyNotRandom},
		{"masquerade to ports", nat("-A POSTROUTING -p udp -j MASQUERADE --to-ports 1024-2048\n"), MarkAbsent, nil, PortChange, WhyBypassed},
		{"masquerade to every port that the tunnel uses", nat("-A POSTROUTING -p udp -j MASQUERADE --to-ports 1024-65535\n" + kubeFixed), MarkBypassed, isTrue, NoChange, WhyNotRandom},
		{"snat to itself and every port that the tunnel uses", nat("-A POSTROUTING -p udp -j SNAT --to-source {bracketed}:1024-65535\n"), MarkAbsent, nil, NoChange, WhyNotRandom},
		{"masquerade at random to every port that the tunnel uses", nat("-A POSTROUTING -p udp -j MASQUERADE --to-ports 1024-65535 --random\n"), MarkAbsent, nil, PortChange, WhyBypassed},
		{"what IPsec takes is accepted", nat("-A POSTROUTING -m policy --dir out --pol ipsec -j ACCEPT\n" + kubeFixed), MarkCleared, isTrue, NoChange, WhyCleared},
		{"what IPsec does not take is accepted", nat("-A POSTROUTING -m policy --dir out --pol none -j ACCEPT\n" + kubeFixed), MarkAbsent, nil, NoChange, WhyNoRule},
		{"what IPsec does not take is masqueraded", nat("-A POSTROUTING -m policy --dir out --pol none -j MASQUERADE --random-fully\n"), MarkAbsent, nil, PortChange, WhyBypassed},
		{"sent to the tunnel's port", nat("-A POSTROUTING -m conntrack --ctproto udp --ctorigdst {remote} --ctorigdstport 8472 -j MASQUERADE --random-fully\n" + kubeFixed), MarkBypassed, isTrue, PortChange, WhyBypassed},
		{"sent to another port", nat("-A POSTROUTING -m conntrack --ctorigdstport 4789 -j MASQUERADE --random-fully\n" + kubeFixed), MarkCleared, isTrue, NoChange, WhyCleared},
		{"sent to other ports, as the inner packet is", nat("-A POSTROUTING -p udp -m conntrack ! --ctorigdstport 8000:9000 -j MASQUERADE --random-fully\n" + kubeFixed), MarkBypassed, isTrue, PortChange, WhyBypassed},
		{"sent from the tunnel's address, answered there", nat("-A POSTROUTING -m conntrack --ctorigsrc {local} --ctrepldst {node} --ctstate NEW -j MASQUERADE --random-fully\n"), MarkAbsent, nil, PortChange, WhyBypassed},
		{"nested", nat(`:A - [0:0]
:B - [0:0]
:C - [0:0]
-A POSTROUTING -j A
-A A -p tcp -j RETURN
-A A -j B
-A A -j MASQUERADE --random-fully
-A B -g C
-A B -j MASQUERADE --random-fully
-A C -o nowhere -j ACCEPT
-A C -m mark --mark 0x4000/0x4000 -j ACCEPT
` + kubeFixed), MarkAbsent, nil, PortChange, WhyBypassed}, // a marked packet of UDP leaves in C
		{"only marked by another mark", nat("-A POSTROUTING -m mark --mark 0x2000/0x2000 -j MASQUERADE --random-fully\n" + kubeFixed), MarkCleared, isTrue, NoChange, WhyCleared},
		{"exact mark", nat("-A POSTROUTING -m mark --mark 0x4000 -j MASQUERADE --random-fully\n"), MarkKept, isTrue, PortChange, WhyKept},
		{"a match that is not understood", nat("-A POSTROUTING -m u32 --u32 \"0x0&0x0=0x0\" -j MASQUERADE --random-fully\n"), MarkAbsent, nil, UnsureChange, WhyUnread},
		{"connmark restored", nat("-A POSTROUTING -j CONNMARK --restore-mark\n" + kubeOld), MarkAbsent, nil, NoChange, WhyCleared},
		{"policy", nat(":POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -m addrtype --src-type LOCAL -m addrtype ! --dst-type LOCAL -j MASQUERADE --random-fully\n"), MarkAbsent, nil, PortChange, WhyBypassed},
		{"new flows", nat("-A POSTROUTING -m conntrack --ctstate NEW -m comment --comment x -j MASQUERADE --random-fully\n"), MarkAbsent, nil, PortChange, WhyBypassed},
		{"established flows", nat("-A POSTROUTING -m conntrack --ctstate ESTABLISHED,RELATED -j MASQUERADE --random-fully\n"), MarkAbsent, nil, NoChange, WhyNoRule},
		{"physdev", nat("-A POSTROUTING -m physdev --physdev-is-bridged -j MASQUERADE --random-fully\n" + kubeFixed), MarkCleared, isTrue, NoChange, WhyCleared},
	}
}

func (o *oracle) fill(s string) string {
	v := []string{
		"{cluster}", "10.244.0.0/16", "{pods}", "10.244.0.0/24", "{docker}", "172.17.0.0/16", "{node}", "192.168.77.0/24", "{multicast}", "224.0.0.0/4",
		"{local}", "192.168.77.1", "{bracketed}", "192.168.77.1", "{remote}", "192.168.77.2", "{other}", "192.168.77.9", "{low}", "192.168.77.0", "{high}", "192.168.77.8",
	}
	if o.ipv6 {
		v = []string{
			"{cluster}", "fd44::/16", "{pods}", "fd44::/64", "{docker}", "fd17::/64", "{node}", "fd77::/64", "{multicast}", "ff00::/8",
			"{local}", "fd77::1", "{bracketed}", "[fd77::1]", "{remote}", "fd77::2", "{other}", "fd77::9", "{low}", "fd77::", "{high}", "fd77::8",
		}
	}
	return strings.NewReplacer(v...).Replace(s)
}

func (o *oracle) restore(backend string, tables map[string]string) {
	o.t.Helper()
	o.legacy = o.legacy || backend == Legacy
	program := "iptables"
	if o.ipv6 {
		program = "ip6tables"
	}
	var s strings.Builder
	for _, table := range []string{"raw", "mangle", "nat", "filter"} {
		if rules, ok := tables[table]; ok {
			fmt.Fprintf(&s, "*%s\n%sCOMMIT\n", table, o.fill(rules))
		}
	}
	o.a.Configure(s.String(), program+"-"+backend+"-restore")
}

// live is what really happens: the worst of packets that go in with the mark and without.
func (o *oracle) live() Change { return o.liveOf(o.node) }

func (o *oracle) liveOf(from *endpoint) Change {
	worst := NoChange
	for _, mark := range []int{testMark, 0} {
		for _, later := range []bool{false, true} {
			c, _ := o.probe(from, map[bool]int{false: mark}[later], later) // rules mark the first packet alone
			worst = worseOf(worst, c)
		}
	}
	return worst
}

func worseOf(a, b Change) Change {
	if changeRank(b) > changeRank(a) {
		return b
	}
	return a
}

func eachOracle(t *testing.T, f func(*testing.T, *oracle)) {
	t.Helper()
	t.Parallel()
	for _, six := range []bool{false, true} {
		name := label.IPv4
		if six {
			name = label.IPv6
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, newOracle(t, six))
		})
	}
}

// TestForms has every form written by the real programs, in each backend and family, judges it, and lets a packet go through it.
func TestForms(t *testing.T) {
	eachOracle(t, func(t *testing.T, o *oracle) {
		for _, backend := range []string{Legacy, NFT} {
			for _, f := range forms() {
				t.Run(backend+"/"+strings.ReplaceAll(f.name, " ", "_"), func(t *testing.T) {
					o.t = t
					o.reset()
					o.restore(backend, f.tables)
					s, err := o.read()
					if err != nil {
						t.Fatal(err)
					}
					o.check(s, backend, f)
				})
			}
		}
	})
}

func (o *oracle) family() string {
	if o.ipv6 {
		return label.IPv6
	}
	return label.IPv4
}

func (o *oracle) check(s State, backend string, f form) {
	t := o.t
	t.Helper()
	r := findRuleset(s, o.family(), backend)
	if r.MarkState != f.guard {
		t.Errorf("guard %s, want %s; quotes %+v", r.MarkState, f.guard, r.Quotes)
	}
	switch {
	case (r.RandomFully == nil) != (f.random == nil):
		t.Errorf("random_fully %v, want %v", r.RandomFully, f.random)
	case f.random != nil && *r.RandomFully != *f.random:
		t.Errorf("random_fully %v, want %v", *r.RandomFully, *f.random)
	}
	outer := s.Outer[0]
	if outer.Change != f.change || outer.Why != f.why {
		t.Errorf("outer %s because of %s (%+v), want %s because of %s", outer.Change, outer.Why, outer.Rule, f.change, f.why)
	}
	if live := o.live(); outer.Change != UnsureChange && live != outer.Change {
		t.Errorf("judged %s (%s), but the packet on the wire had %s", outer.Change, outer.Why, live)
	}
}

func findRuleset(s State, family, backend string) Ruleset {
	for _, r := range s.Rulesets {
		if r.Family == family && r.Backend == backend {
			return r
		}
	}
	return Ruleset{}
}
