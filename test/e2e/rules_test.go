package e2e_test

import (
	"testing"

	"vxlan_exporter/test/lab"
)

// For every form of the rules, what the exporter says of them is what they do.
func TestRulesAndReality(t *testing.T) {
	t.Parallel()
	for _, backend := range []lab.Backend{lab.Legacy, lab.NFT} {
		for _, family := range []lab.Family{lab.IPv4, lab.IPv6} {
			t.Run(string(backend)+"/"+string(family), func(t *testing.T) {
				t.Parallel()
				o := lab.LiveFailure()
				o.Backend, o.Family = backend, family
				n := newNodes(t, o)
				absent := "absent"
				if family == lab.IPv6 {
					absent = "" // no NAT rules at all in that family: nothing to judge
				}
				for _, c := range []struct {
					rules   lab.Rules
					guard   string
					backend lab.Backend
					fails   bool
				}{
					{lab.RulesOld, "kept", backend, true},
					{lab.RulesFixed, "cleared", backend, false},
					{lab.RulesBypassed, "bypassed", backend, true},
					{lab.RulesFlannel, "bypassed", backend, true},
					{lab.RulesFlannelKube, "cleared", backend, false},
					{lab.RulesDocker, "cleared", backend, false},
					{lab.RulesIPVS, "cleared", backend, false},
					{lab.RulesNone, absent, backend, false},
					{lab.RulesNFTables, "cleared", lab.NFT, false},
					{lab.RulesNFTablesOld, "kept", lab.NFT, true},
				} {
					if err := n.SetRules(c.rules, true); err != nil {
						t.Fatal(err)
					}
					if err := n.FlushOuterFlows(); err != nil {
						t.Fatal(err)
					}
					before := n.sender.Scrape()
					if n.stalls() != c.fails {
						t.Errorf("%s: fails %t; want %t", c.rules, !c.fails, c.fails)
					}
					t.Run(string(c.rules), func(t *testing.T) {
						after := n.sender.Scrape()
						guard := func(state string) string {
							return series("vxlan_nat_masquerade_mark_state", "family="+string(family), "backend="+string(c.backend), "state="+state)
						}
						is(t, after, map[string]float64{exposure("offloaded_checksum", "active"): boolValue(c.fails)})
						if c.rules == lab.RulesFlannel && family == lab.IPv6 {
							// The inner packet, IPv4, is the one that is masqueraded too early; the rules of IPv6 are in order.
							is(t, after, map[string]float64{series("vxlan_nat_masquerade_mark_state", "family=ipv4", "backend="+string(c.backend), "state=bypassed"): 1})
							c.guard = "cleared"
						}
						if c.guard != "" {
							is(t, after, map[string]float64{guard(c.guard): 1})
						}
						is(t, before, map[string]float64{exposure("offloaded_checksum", "exposed"): boolValue(c.fails)})
						if t.Failed() {
							for _, s := range after.Names() {
								if contains(s, "vxlan_nat_", "vxlan_device_exposure", "vxlan_conntrack_nat_flows") && after[s] != 0 {
									t.Logf("%s %g", s, after[s])
								}
							}
						}
					})
				}
			})
		}
	}
}

// The remedies that change rules rather than the device are seen, too.
func TestRemediesAreSeen(t *testing.T) {
	t.Parallel()
	n := newNodes(t, lab.LiveFailure())
	for name, remedy := range map[string]struct{ take, undo func() error }{
		"mark reset in filter": {
			func() error { return n.SetMarkReset(lab.MarkResetFilter) },
			func() error { return n.SetMarkReset(lab.MarkResetNone) },
		},
		"mark reset in mangle": {
			func() error { return n.SetMarkReset(lab.MarkResetMangle) },
			func() error { return n.SetMarkReset(lab.MarkResetNone) },
		},
		"NOTRACK": {
			func() error { return n.SetNotrack(true) },
			func() error { return n.SetNotrack(false) },
		},
		"no --random-fully": {
			func() error { return n.SetRules(lab.RulesOld, false) },
			func() error { return n.SetRules(lab.RulesOld, true) },
		},
		"tx-checksum-ip-generic off": {
			func() error { return n.SetTxChecksum(false) },
			func() error { return n.SetTxChecksum(true) },
		},
		"no outer checksum": {
			func() error { return n.SetUDPChecksum(false) },
			func() error { return n.SetUDPChecksum(true) },
		},
	} {
		is(t, n.sender.Scrape(), map[string]float64{exposure("offloaded_checksum", "exposed"): 1})
		if err := remedy.take(); err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			is(t, n.sender.Scrape(), map[string]float64{exposure("offloaded_checksum", "clear"): 1})
		})
		if err := remedy.undo(); err != nil {
			t.Fatal(err)
		}
	}
}

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
