package natrules

import (
	"fmt"
	"net/netip"
	"testing"
)

// masquerading is a nat chain at POSTROUTING that masquerades everything at random, or, when empty, does nothing.
func masquerading(backend string, priority int32, empty bool) *ruleset {
	c := &chain{backend: backend, table: "nat", name: "POSTROUTING", loaded: true}
	if !empty {
		nat := verdict{kind: verdictNAT, nat: natRange{masquerade: true, flags: rangeFullyRandom}}
		c.rules = []*rule{{chain: c, steps: []step{func(*machine) effect { return ends(nat) }}, text: backend}}
	}
	b := &base{chain: c, hook: hookPostrouting, priority: priority, nat: true}
	return &ruleset{backend: backend, bases: []*base{b}}
}

// TestOldNATHooks: up to 4.17 the first NAT chain binds a flow, also to what it is; from 4.18 on the next one is asked.
func TestOldNATHooks(t *testing.T) {
	const el7, first = "3.10.0-1127.el7.x86_64", "4.18.0-80.el8.x86_64"
	for _, c := range []struct {
		release  string
		priority int32 // of nf_tables' chain, which masquerades; ip_tables' table, at 100, does not
		want     Change
		why      Why
	}{
		{el7, 99, PortChange, WhyBypassed},
		{el7, 100, UnsureChange, WhyOrder},
		{el7, 101, NoChange, WhyNoRule},
		{"4.17.19", 101, NoChange, WhyNoRule},
		{"4.14.5", 100, UnsureChange, WhyOrder},
		{first, 99, PortChange, WhyBypassed},
		{first, 100, PortChange, WhyBypassed},
		{first, 101, PortChange, WhyBypassed},
		{"not a version", 101, PortChange, WhyBypassed},
	} {
		in := Input{Ports: []Port{{Port: vxlanPort, IPv4: true}}, Release: c.release}
		s := judgeRules(in, []*ruleset{masquerading(Legacy, prioNATSrc, true), masquerading(NFT, c.priority, false)})
		if o := s.Outer[0]; o.Change != c.want || o.Why != c.why {
			t.Errorf("%s, priority %d: %s because of %s, want %s because of %s", c.release, c.priority, o.Change, o.Why, c.want, c.why)
		}
	}
}

// TestFullyRandomIgnored: before 3.14 the flag does nothing; RHEL 7 knows it.
func TestFullyRandomIgnored(t *testing.T) {
	for release, want := range map[string]Change{"3.10.108": NoChange, "3.10.0-1127.el7.x86_64": PortChange, "3.14.79": PortChange} {
		own := netip.MustParseAddr("192.0.2.1")
		ways := func(bool, uint32) []Way { return []Way{{Source: own, Masquerade: own}} }
		in := Input{Ports: []Port{{Port: vxlanPort, IPv4: true, Ways: ways}}, Release: release}
		if o := judgeRules(in, []*ruleset{masquerading(Legacy, prioNATSrc, false)}).Outer[0]; o.Change != want {
			t.Errorf("%s: %s because of %s, want %s", release, o.Change, o.Why, want)
		}
	}
}

// TestNATHookOrder has a nat table of ip_tables that does nothing and a chain of nf_tables that masquerades, before it and after it, and
// lets a packet tell what the running kernel makes of them.
func TestNATHookOrder(t *testing.T) {
	eachOracle(t, func(t *testing.T, o *oracle) {
		family := "ip"
		if o.ipv6 {
			family = "ip6"
		}
		o.restore(Legacy, map[string]string{"nat": ""})
		for _, priority := range []int{50, 99, 100, 101, 150} {
			o.a.Run("nft", "flush", "ruleset")
			o.a.RunInput(fmt.Sprintf("table %s t { chain post { type nat hook postrouting priority %d; oifname eth0 masquerade fully-random; }; }\n", family, priority), "nft", "-f", "-")
			s, err := o.read()
			if err != nil {
				t.Fatal(err)
			}
			live, outer := o.live(), s.Outer[0]
			t.Logf("priority %d: judged %s (%s), live %s", priority, outer.Change, outer.Why, live)
			if outer.Change != live && (priority != prioNATSrc || outer.Why != WhyOrder) {
				t.Errorf("priority %d: judged %s (%s), but the packet on the wire had %s", priority, outer.Change, outer.Why, live)
			}
		}
	})
}
