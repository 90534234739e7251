package diagnosis

import (
	"slices"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/kernel/procnet"
	"vxlan_exporter/internal/node"
)

// want is what a case asserts. Exposures are those of flannel.1 unless other names are given.
type want struct {
	state State
	a, b  State            // exposure of flannel.1 to zero_checksum and offloaded_checksum; empty: not asserted
	also  map[string]State // "device variant" of other devices
	codes []Code           // must be there
	not   []Code           // must not be there
	types []string         // commands that must be among the remedies
	shuns []string         // parts of commands that must not
	says  []string         // parts of headline, reasons and summaries that must be there
}

type testCase struct {
	name string
	node *node.Node
	want want
}

const (
	offCommand      = "ethtool -K flannel.1 tx-checksum-ip-generic off"
	deleteCommand   = "conntrack -D -p udp --dport 8472"
	delete6         = "conntrack -D -f ipv6 -p udp --dport 8472"
	resetCommand    = "iptables -I OUTPUT -p udp --dport 8472 -j MARK --set-xmark 0x0/0x4000"
	notrackCommand  = "iptables -t raw -I OUTPUT -p udp --dport 8472 -j NOTRACK"
	selfTestCommand = "sudo vxlan_exporter selftest"
	lookThere       = "sudo vxlan_exporter check"
)

// variantCases: the conditions of variants A and B on the sender, each present and absent.
func variantCases() []testCase {
	return []testCase{
		{"B: old rules, random, NATed flows", once(newKernel(), oldRules(), flows(12, 3)), want{
			state: Failing, a: Clear, b: Active, codes: []Code{CodeNATSpoils}, not: []Code{CodeNATCouldSpoil, CodeClear},
			types: []string{offCommand, resetCommand, notrackCommand, deleteCommand},
			says: []string{
				"3 of 12 flows with a rewritten source", "10.0.0.1:60142 to 10.0.0.2:8472 left as 10.0.0.1:33012",
				"Upgrade kube-proxy",
			},
		}},
		{"B: old rules, random, no NATed flow yet", once(newKernel(), oldRules()), want{
			state: Exposed, a: Clear, b: Exposed, codes: []Code{CodeNATCouldSpoil}, types: []string{offCommand, resetCommand},
			says: []string{"12 flows tracked, none NATed", "No NATed flow is there now"},
		}},
		{"B: tx checksum off, old rules and NATed flows", once(newKernel(), oldRules(), txOff(), flows(12, 3)), want{
			state: Healthy, a: Clear, b: Clear, codes: []Code{CodeClear, CodeOffloadAlone}, not: []Code{CodeNATSpoils},
			says: []string{"tx-checksum-ip-generic off", "switches it on again"},
		}},
		{
			"B: segmentation still on after tx checksum went off is no danger", once(txOff(), oldRules()),
			want{state: Healthy, b: Clear},
		},
		{"B: MASQUERADE without random-fully keeps the port", once(notRandom()), want{
			state: Healthy, a: Clear, b: Clear, says: []string{"MASQUERADE keeps the source port"},
		}},
		{"B: today's defaults with the fixed rules", once(), want{
			state: Healthy, a: Clear, b: Clear, codes: []Code{CodeClear}, not: []Code{CodeOffloadAlone},
			says: []string{"the masquerade mark is cleared before MASQUERADE"},
		}},
		{"B: fixed rules, but another MASQUERADE runs first", once(newKernel(), bypassed(), flows(9, 1)), want{
			state: Failing, b: Active, codes: []Code{CodeNATSpoils}, types: []string{offCommand, notrackCommand},
			shuns: []string{"--set-xmark"}, says: []string{
				"-A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE --random-fully",
				"Move or narrow",
			},
		}},
		{
			"B: bypassed, no NATed flow yet", once(bypassed()),
			want{state: Exposed, b: Exposed, shuns: []string{"--set-xmark"}},
		},
		{"B: later packets of a connection get the mark back", once(restored()), want{
			state: Exposed, b: Exposed, codes: []Code{CodeMarkRestored}, not: []Code{CodeNATCouldSpoil},
			types: []string{resetCommand, offCommand},
			says: []string{
				"-A PREROUTING -j CONNMARK --restore-mark", "after a pause longer than nf_conntrack_udp_timeout",
				"--nfmask 0xffffbfff",
			},
		}},
		{
			"B: and flows are NATed", once(restored(), flows(3, 1)),
			want{state: Failing, b: Active, codes: []Code{CodeNATSpoils}, says: []string{"--restore-mark"}},
		},
		{
			"B: which of two NAT chains binds a flow is not known", once(outer(natrules.UnsureChange, natrules.WhyOrder, nil)),
			want{
				state: Unknown, b: Unknown, codes: []Code{CodeExposureUnknown},
				says: []string{"the first NAT chain decides for all"},
			},
		},
		{"B: the order of two chains is not known", once(chainsOfOnePriority()), want{
			state: Unknown, b: Unknown, codes: []Code{CodeChainOrder}, not: []Code{CodeExposedUnread, CodeNATCouldSpoil},
			types: []string{offCommand},
			says: []string{
				"order of their registration", "nat POSTROUTING: -A POSTROUTING ! -s 10.244.0.0/16",
				"ip kube-proxy masquerading: meta mark", "skip packets with the mark 0x4000",
			},
		}},
		{"B: NATed flows settle the order", once(chainsOfOnePriority(), flows(3, 1)), want{
			state: Failing, b: Active, codes: []Code{CodeNATSpoils},
			says: []string{"nat POSTROUTING: -A POSTROUTING ! -s 10.244.0.0/16", "ip kube-proxy masquerading: meta mark"},
		}},
		{
			"B: NATed flows settle it", once(outer(natrules.UnsureChange, natrules.WhyOrder, nil), flows(2, 2)),
			want{state: Failing, b: Active},
		},
		{"B: SNAT of the address alone", once(snatOfAddress(), flows(2, 2)), want{
			state: Failing, b: Active, says: []string{"source address"}, shuns: []string{"--set-xmark"},
		}},
		{
			"B: an old kernel has it as well", once(oldKernel(), oldRules(), flows(2, 1)),
			want{state: Failing, a: Clear, b: Active},
		},
		{"B: a kernel fixed for A is not fixed for B", once(newKernel(), oldRules(), flows(2, 1)), want{
			state: Failing, b: Active, says: []string{"6.18.0"}, codes: []Code{CodeNATSpoils},
		}},
		{
			"B: a kernel that says nothing is not cleared by it", once(kernel("", ""), oldRules(), flows(2, 1)),
			want{state: Failing, a: Clear, b: Active},
		},
		{
			"B: the self-test proves this kernel unharmed",
			once(selfTested(node.OffloadedChecksum, node.IPv4, kernelversion.Fixed), oldRules(), flows(2, 1)),
			want{
				state: Healthy, b: Clear, codes: []Code{CodeKernelAlone}, types: []string{selfTestCommand},
			},
		},
		{
			"B: a self-test over IPv6 says nothing of IPv4",
			once(selfTested(node.OffloadedChecksum, node.IPv6, kernelversion.Fixed), oldRules()),
			want{state: Exposed, b: Exposed},
		},
		{"B: noudpcsum is offered where A is fixed", once(newKernel(), oldRules(), flows(2, 1)), want{
			state: Failing, says: []string{"Recreate the device with noudpcsum"},
		}},
		{"B: over IPv6 the checksum is always on", once(over6(), noudpcsum(), oldRules(), flows(2, 1)), want{
			state: Failing, a: Clear, b: Active,
			types: []string{delete6, "ip6tables -t raw -I OUTPUT -p udp --dport 8472 -j NOTRACK"},
			shuns: []string{"iptables -I OUTPUT -p udp --dport 8472 -j MARK --set-xmark 0x0/0x4000 "},
			says:  []string{"outer UDP checksum on (IPv6 underlay)"},
		}},
		{
			"B: over IPv6 with udp6zerocsumtx there is none", once(newKernel(), over6(), zeroTx6(), oldRules(), flows(2, 1)),
			want{
				state: Healthy, a: Clear, b: Clear, codes: []Code{CodeKernelAlone},
			},
		},
		{
			"B: over IPv6 on a kernel without the switch", once(over6(), oldAttributes(), oldRules()),
			want{state: Exposed, b: Exposed, a: Clear},
		},
		{"A: old kernel, no outer checksum, NATed flows", once(oldKernel(), noudpcsum(), oldRules(), flows(12, 1)), want{
			state: Failing, a: Active, b: Clear, codes: []Code{CodeNATSpoils}, types: []string{
				offCommand, resetCommand,
				deleteCommand,
			},
			says: []string{"4.19.100 is affected", "Upgrade the kernel", "1 of 12 flows with a rewritten source"},
		}},
		{
			"A: old kernel, no NATed flow yet", once(oldKernel(), noudpcsum(), oldRules()),
			want{state: Exposed, a: Exposed, b: Clear},
		},
		{"A: fixed kernel", once(newKernel(), noudpcsum(), oldRules()), want{
			state: Healthy, a: Clear, b: Clear, says: []string{"has the fix for this variant"}, not: []Code{CodeKernelAlone},
		}},
		{"A: fixed kernel by its version, with NATed flows", once(newKernel(), noudpcsum(), oldRules(), flows(12, 1)), want{
			state: Healthy, a: Clear, codes: []Code{CodeKernelAlone}, types: []string{selfTestCommand},
		}},
		{
			"A: 4.19.123 has the fix", once(kernel("4.19.123", "#1 SMP"), noudpcsum(), oldRules()),
			want{state: Healthy, a: Clear},
		},
		{
			"A: RHEL 8 before the backport", once(kernel("4.18.0-193.el8.x86_64", "#1 SMP"), noudpcsum(), oldRules()),
			want{state: Exposed, a: Exposed},
		},
		{
			"A: RHEL 8 with the backport", once(kernel("4.18.0-305.el8.x86_64", "#1 SMP"), noudpcsum(), oldRules()),
			want{state: Healthy, a: Clear},
		},
		{
			"A: RHEL 7", once(kernel("3.10.0-1062.el7.x86_64", "#1 SMP"), noudpcsum(), oldRules(), flows(1, 1)),
			want{state: Failing, a: Active},
		},
		{"A: a vendor kernel nobody knows", once(vendorKernel(), noudpcsum(), oldRules()), want{
			state: Unknown, a: Unknown, b: Clear, codes: []Code{CodeExposureUnknown}, types: []string{selfTestCommand},
			says: []string{"does not tell whether it has the fix"},
		}},
		{
			"A: a vendor kernel nobody knows, with NATed flows", once(vendorKernel(), noudpcsum(), oldRules(), flows(5, 2)),
			want{
				state: Unknown, a: Unknown, types: []string{selfTestCommand, offCommand},
				says: []string{"NATed flows to its port are there now: 2 of 5"},
			},
		},
		{
			"A: kernel not read", once(kernel("", ""), noudpcsum(), oldRules()),
			want{state: Unknown, a: Unknown, says: []string{"version was not read"}},
		},
		{
			"A: the self-test beats an unknown version",
			once(vendorKernel(), selfTested(node.ZeroChecksum, node.IPv4, kernelversion.Affected), noudpcsum(), oldRules()),
			want{
				state: Exposed, a: Exposed, says: []string{"self-test proved this kernel affected"},
			},
		},
		{
			"A: the self-test beats a version that says affected",
			once(oldKernel(), selfTested(node.ZeroChecksum, node.IPv4, kernelversion.Fixed), noudpcsum(), oldRules()),
			want{
				state: Healthy, a: Clear,
			},
		},
		{
			"A: the self-test beats a version that says fixed",
			once(newKernel(), selfTested(node.ZeroChecksum, node.IPv4, kernelversion.Affected), noudpcsum(), oldRules(),
				flows(3, 1)),
			want{
				state: Failing, a: Active,
			},
		},
		{
			"A: a self-test that could not tell leaves it to the version",
			once(oldKernel(), selfTested(node.ZeroChecksum, node.IPv4, kernelversion.Unknown), noudpcsum(), oldRules()),
			want{
				state: Exposed, a: Exposed,
			},
		},
		{
			"A: a self-test of another boot does not count",
			once(oldKernel(), selfTested(node.ZeroChecksum, node.IPv4, kernelversion.Fixed), noudpcsum(), oldRules(),
				func(n *node.Node) { n.Kernel.SelfTest.BootID = "b0" }),
			want{state: Exposed, a: Exposed},
		},
		{"A: old kernel, tx checksum off", once(oldKernel(), noudpcsum(), txOff(), oldRules(), flows(3, 1)), want{
			state: Healthy, a: Clear, codes: []Code{CodeOffloadAlone},
		}},
		{"A: old kernel, fixed rules", once(oldKernel(), noudpcsum()), want{state: Healthy, a: Clear, b: Clear}},
		{
			"A: over IPv6 without checksum on an old kernel", once(oldKernel(), over6(), zeroTx6(), oldRules(), flows(3, 1)),
			want{
				state: Failing, a: Active, b: Clear, types: []string{delete6},
			},
		},
	}
}

// trapCases: what is easily judged wrong on a sender.
func trapCases() []testCase {
	notrack := outer(natrules.NoChange, natrules.WhyNotrack, &natrules.Rule{
		Role: "notrack", Table: "raw",
		Text: "-A cali-OUTPUT -p udp -m udp --dport 4789 -j NOTRACK",
	})
	return []testCase{
		{"NOTRACK: no flow tracked is what one should see", once(notrack, flows(0, 0)), want{
			state: Healthy, a: Clear, b: Clear, codes: []Code{CodeNotracked}, says: []string{"the VXLAN port is not tracked"},
		}},
		{"NOTRACK holds even where another backend was not readable", once(notrack, flows(0, 0), func(n *node.Node) {
			n.NATRules.Rulesets[1].Status = node.NotPermitted
		}), want{state: Healthy, b: Clear}},
		{"NOTRACK: NATed entries that are left mean nothing", once(notrack, nattedFrom("10.0.0.1", 2)), want{
			state: Healthy, b: Clear, codes: []Code{CodeLeftOver}, not: []Code{CodeRulesContradicted, CodeNATSpoils},
			says: []string{"2 NATed entries", "within 25s"},
		}},
		{"NOTRACK: a packet met an entry before the rule was there", once(notrack, nattedFrom("10.0.0.1", 2),
			used(-9*time.Second), rulesSince(-5*time.Second)), want{
			state: Healthy, b: Clear, codes: []Code{CodeLeftOver},
		}},
		{"NOTRACK said, but packets meet NATed entries", once(notrack, nattedFrom("10.0.0.1", 2), used(-5*time.Second)), want{
			state: Failing, b: Active, codes: []Code{CodeRulesContradicted}, not: []Code{CodeLeftOver},
			types: []string{deleteCommand},
		}},
		{"NOTRACK said, but packets met NATed entries that are gone", once(notrack, nattedFrom("10.0.0.1", 0),
			used(-5*time.Second)), want{
			state: Unknown, b: Unknown, says: []string{
				"the VXLAN port is not tracked, so NAT cannot touch it",
				"what NATed them is not known",
			},
		}},
		{
			"NOTRACK: the entries that were left are gone", once(notrack, nattedFrom("10.0.0.1", 0)),
			want{state: Healthy, b: Clear},
		},
		{
			"rules guard: a stalled connection keeps an entry from before in use",
			once(nattedFrom("10.0.0.1", 1), used(-5*time.Second), rulesSince(-20*time.Second)),
			want{
				state: Failing, b: Active, codes: []Code{CodeRulesContradicted}, types: []string{deleteCommand},
			},
		},
		{"rules guard: the entries from before are gone", once(nattedFrom("10.0.0.1", 0), used(-5*time.Second),
			rulesSince(-20*time.Second)), want{state: Healthy, b: Clear}},
		{
			"rules guard, but flows were NATed a minute ago under the same rules",
			once(nattedFrom("10.0.0.1", 0), seen(-time.Minute)),
			want{
				state: Unknown, b: Unknown, says: []string{"1m0s ago some were NATed"}, not: []Code{CodeClear},
			},
		},
		{"rules guard, but flows were made since", once(nattedFrom("10.0.0.1", 0), seen(-time.Minute), born(-70*time.Second),
			rulesSince(-5*time.Minute)), want{
			state: Unknown, b: Unknown,
		}},
		{
			"rules guard, and flows were NATed an hour ago", once(nattedFrom("10.0.0.1", 0), seen(-time.Hour)),
			want{state: Healthy, b: Clear},
		},
		{"rules guard, flows of another device were NATed", once(nattedFrom("10.0.0.50", 0), seen(-time.Minute),
			second("flannel.2", from("10.0.0.50"))), want{
			state: Unknown, b: Clear, also: map[string]State{"flannel.2 offloaded_checksum": Unknown},
		}},
		{"flows were NATed under the same rules, but the offload is off", once(nattedFrom("10.0.0.1", 0), seen(-time.Minute),
			txOff()), want{state: Healthy, b: Clear}},
		{"rules guard, but NATed flows seen: believe the flows", once(flows(4, 2)), want{
			state: Failing, b: Active, codes: []Code{CodeRulesContradicted, CodeNATSpoils}, types: []string{deleteCommand},
			says: []string{"the rules say otherwise"},
		}},
		{
			"no NAT rule matches", once(outer(natrules.NoChange, natrules.WhyNoRule, nil)),
			want{state: Healthy, b: Clear, says: []string{"no NAT rule matches"}},
		},
		{"mark reset for the VXLAN port", once(outer(natrules.NoChange, natrules.WhyMarkReset, nil)), want{
			state: Healthy, b: Clear, says: []string{"the mark is cleared for the VXLAN port on the way out"},
		}},
		{"no NAT tables at all", once(reading("natrules", node.None, ""),
			func(n *node.Node) { n.NATRules = natrules.State{} }), want{
			state: Healthy, b: Clear, says: []string{"there are no NAT rules"},
		}},
		{"rules not permitted: exposed, and that is why", once(rulesRefused()), want{
			state: Exposed, b: Exposed, codes: []Code{CodeExposedUnread, CodeResultMissing}, not: []Code{CodeNATCouldSpoil},
			types: []string{lookThere, offCommand}, says: []string{
				"exposed because the NAT rules could not be judged",
				"needs CAP_NET_ADMIN",
			},
		}},
		{
			"rules not permitted, but NATed flows seen", once(rulesRefused(), flows(4, 2)),
			want{state: Failing, b: Active, not: []Code{CodeExposedUnread}},
		},
		{"neither rules nor flows permitted", once(rulesRefused(), flowsRefused()), want{
			state: Exposed, b: Exposed, says: []string{
				"flows not seen (conntrack: dump ipv4",
				"Whether NATed flows are there could not be seen",
			},
		}},
		{"rules collector switched off", once(reading("natrules", node.Disabled, ""),
			func(n *node.Node) { n.NATRules = natrules.State{} }), want{
			state: Exposed, b: Exposed, says: []string{"switched off"},
		}},
		{"a rule not understood is quoted", once(outer(natrules.UnsureChange, natrules.WhyUnread, &natrules.Rule{
			Role: "not_understood", Table: "nat", Text: "-A POSTROUTING -m bpf --bytecode 1 -j MASQUERADE",
		})), want{state: Exposed, b: Exposed, codes: []Code{CodeExposedUnread}, says: []string{"-m bpf --bytecode 1"}}},
		{"cleared in nft, but the legacy rules were refused", once(func(n *node.Node) {
			n.NATRules.Rulesets[0].Status, n.NATRules.Rulesets[0].Error = node.NotPermitted, "ip_tables: operation not permitted"
		}), want{state: Exposed, b: Exposed, says: []string{"ip_tables: operation not permitted"}}},
		{"no connection tracking on the node: nothing can be NATed", once(rulesRefused(), noConntrack()), want{
			state: Healthy, b: Clear, says: []string{"connection tracking is not loaded"},
		}},
		{
			"a hidden /proc looks like no connection tracking, and is not believed",
			once(rulesRefused(), noConntrack(), func(n *node.Node) { n.Host = node.Host{} }),
			want{
				state: Exposed, b: Exposed,
			},
		},
		{
			"flows refused while the rules guard", once(flowsRefused()),
			want{state: Healthy, b: Clear, codes: []Code{CodeResultMissing}},
		},
		{
			"flows refused and old rules: exposed, not failing", once(flowsRefused(), oldRules()),
			want{state: Exposed, b: Exposed},
		},
		{
			"no flow tracked at all", once(oldRules(), flows(0, 0)),
			want{state: Exposed, b: Exposed, says: []string{"no flow tracked"}},
		},
		{"NATed flows seen earlier", once(oldRules(), func(n *node.Node) { n.Conntrack.Ports[0].SeenSNAT = 5 }), want{
			state: Exposed, codes: []Code{CodeSeenEarlier}, says: []string{"5 NATed flows came by since the exporter started"},
		}},
		{"the scan is stale", once(oldRules(), flows(3, 1), func(n *node.Node) { n.Conntrack.Scan.Stale = true }), want{
			state: Failing, codes: []Code{CodeStaleScan}, says: []string{"as of an earlier scan"},
		}},
		{"external device: the flag does not tell", once(external(), oldRules()), want{
			state: Unknown, a: Clear, b: Unknown, codes: []Code{CodeExposureUnknown},
			says: []string{"takes the outer checksum from each packet"},
		}},
		{"external device on an old kernel with NATed flows", once(external(), oldKernel(), oldRules(), flows(6, 2)), want{
			state: Unknown, a: Unknown, b: Unknown, codes: []Code{CodeExposureUnknown},
			says:  []string{"NATed flows to its port are there now"},
			types: []string{offCommand},
		}},
		{
			"external device, tx checksum off", once(external(), txOff(), oldRules(), flows(6, 2)),
			want{state: Healthy, a: Clear, b: Clear},
		},
		{"external device, both families cleared", once(external(), func(n *node.Node) {
			n.NATRules.Outer = append(n.NATRules.Outer, natrules.Outer{
				Family: node.IPv6, Port: 8472, Change: natrules.NoChange,
				Why: natrules.WhyNoRule,
			})
		}), want{state: Healthy, a: Clear, b: Clear}},
		{"device moved here from another namespace", once(movedHere(), oldRules(), flows(6, 2)), want{
			state: Unknown, b: Unknown, a: Clear, codes: []Code{CodeExposureUnknown, CodeFlowsNoDevice},
			not:   []Code{CodeNATSpoils},
			types: []string{"ip netns list-id"}, says: []string{"link-netnsid 7"},
		}},
		{
			"device moved here, tx checksum off", once(movedHere(), txOff(), oldRules()),
			want{state: Healthy, a: Clear, b: Clear},
		},
		{"device moved away: its socket stayed", once(func(n *node.Node) { n.Devices = nil }, oldRules(), flows(6, 2)), want{
			state: Failing, codes: []Code{CodeNoDevices, CodeMovedNATed},
		}},
		{"attributes absent on a kernel that has them", once(oldAttributes(), oldRules()), want{
			state: Unknown, a: Clear, b: Unknown, says: []string{"does not say whether the device writes"},
		}},
		{
			"attributes absent on an old affected kernel", once(oldKernel(), oldAttributes(), oldRules(), flows(1, 1)),
			want{state: Unknown, a: Unknown, b: Unknown},
		},
		{"a kernel before 3.16 never writes an outer checksum", once(kernel("3.10.108", "#1 SMP"), oldAttributes(),
			oldRules()), want{
			state: Exposed, a: Exposed, b: Clear, says: []string{"never writes one"},
		}},
		{
			"attributes absent, tx checksum off", once(oldAttributes(), txOff(), oldRules()),
			want{state: Healthy, a: Clear, b: Clear},
		},
		{"features unread", once(txUnread(), oldRules(), flows(3, 1)), want{
			state: Unknown, a: Clear, b: Unknown, says: []string{
				"SIOCETHTOOL: operation not permitted",
				"NATed flows to its port are there now",
			},
		}},
		{"features unread, but the rules guard", once(txUnread()), want{state: Healthy, b: Clear}},
		{"off [requested on]", once(txOffRequestedOn(), oldRules(), flows(3, 1)), want{
			state: Healthy, b: Clear, codes: []Code{CodeRequestedOn}, types: []string{offCommand},
			says: []string{"off [requested on]"},
		}},
		{
			"device down", once(down(), oldRules()),
			want{state: Healthy, b: Clear, says: []string{"the device is down and sends nothing"}},
		},
		{"two devices on one port, both exposed", once(oldRules(), flows(6, 2), second("flannel.2")), want{
			state: Failing, b: Active, also: map[string]State{"flannel.2 offloaded_checksum": Active},
			codes: []Code{CodeSharedPort},
			types: []string{"ethtool -K flannel.2 tx-checksum-ip-generic off"}, says: []string{"2 devices use this port"},
		}},
		{
			"two devices on one port, one with tx checksum off",
			once(oldRules(), flows(6, 2), second("flannel.2", func(d *node.Device) { d.Features = nil }), func(n *node.Node) {
				n.Devices[1].Features = append(n.Devices[1].Features, n.Devices[0].Features...)
				n.Devices[1].Features[0].Active, n.Devices[1].Features[0].Requested = false, false
			}),
			want{state: Failing, b: Active, also: map[string]State{"flannel.2 offloaded_checksum": Clear}},
		},
		{
			"two devices on one port: a flow is that of the device that it was sent from",
			once(oldRules(), nattedFrom("10.0.0.50", 2), second("flannel.2", from("10.0.0.50"))),
			want{
				state: Failing, b: Exposed, also: map[string]State{"flannel.2 offloaded_checksum": Active},
				not:  []Code{CodeSharedPort, CodeFlowsNoDevice},
				says: []string{"12 flows tracked, none of the device's NATed", "2 of 12 flows with a rewritten source"},
			},
		},
		{
			"two devices on one port: the other's flows harm nobody",
			once(nattedFrom("10.0.0.50", 2),
				second("flannel.2", from("10.0.0.50"), func(d *node.Device) { d.UDPChecksum = new(false) })),
			want{
				state: Healthy, b: Clear, not: []Code{CodeSharedPort, CodeNATSpoils},
			},
		},
		{
			"two devices on one port, one names no address: it may have sent what the other has not",
			once(oldRules(), nattedFrom("10.0.0.50", 2), second("flannel.2", from(""))),
			want{
				state: Failing, b: Exposed, also: map[string]State{"flannel.2 offloaded_checksum": Active},
			},
		},
		{
			"two devices on one port, one names no address: the other's flows are not its own",
			once(oldRules(), nattedFrom("10.0.0.1", 2), second("flannel.2", from(""))),
			want{
				state: Failing, b: Active, also: map[string]State{"flannel.2 offloaded_checksum": Exposed},
			},
		},
		{
			"NATed flows that no device here sends are not charged to the one on their port",
			once(oldRules(), nattedFrom("10.9.9.9", 2)),
			want{
				state: Exposed, b: Exposed, codes: []Code{CodeFlowsNoDevice},
			},
		},
		{"of NATed flows that are not listed, any device may have sent some", once(oldRules(), nattedFrom("10.0.0.50", 2),
			second("flannel.2", from("10.0.0.50")), func(n *node.Node) {
				n.Conntrack.Ports[0].SNAT = 3
			}), want{
			state: Failing, b: Active, also: map[string]State{"flannel.2 offloaded_checksum": Active},
			not: []Code{CodeFlowsNoDevice},
		}},
		{
			"devices on different ports: only the one with NATed flows is active",
			once(oldRules(), flows(6, 2), second("cali", func(d *node.Device) { d.Port = 4789 }), func(n *node.Node) {
				n.NATRules.Outer = append(n.NATRules.Outer, natrules.Outer{
					Family: node.IPv4, Port: 4789,
					Change: natrules.PortChange, Why: natrules.WhyKept,
				})
				n.Conntrack.Ports = append(n.Conntrack.Ports, node.ConntrackPort{Family: node.IPv4, Port: 4789, Flows: 3})
			}),
			want{
				state: Failing, b: Active, also: map[string]State{"cali offloaded_checksum": Exposed},
				not: []Code{CodeSharedPort},
			},
		},
		{"flows of the other family do not count", once(oldRules(), func(n *node.Node) {
			n.Conntrack.Ports = append(n.Conntrack.Ports, node.ConntrackPort{Family: node.IPv6, Port: 8472, Flows: 3, SNAT: 3})
		}), want{state: Exposed, b: Exposed, codes: []Code{CodeFlowsNoDevice}}},
		{"DNAT on the port", once(func(n *node.Node) { n.Conntrack.Ports[0].DNAT = 2 }), want{
			state: Healthy, b: Clear, codes: []Code{CodeDNAT},
			says: []string{"2 flows to ipv4 port 8472 have their destination rewritten"},
		}},
		{
			"NATed flows to a port without a device", once(noDevices(), flows(2, 2)),
			want{state: Unknown, codes: []Code{CodeFlowsNoDevice, CodeNoDevices}},
		},
		{"no VXLAN device", once(noDevices()), want{
			state: Healthy, codes: []Code{CodeNoDevices},
			says: []string{"Nothing here sends or receives VXLAN"},
		}},
		{
			"a device was moved away, and nothing NATs its packets",
			once(movedAway(), outer(natrules.NoChange, natrules.WhyNoRule, nil)),
			want{
				state: Healthy, codes: []Code{CodeMovedAway, CodeNoDevices}, not: []Code{CodeFlowsNoDevice},
				says:  []string{"moved to another network namespace", "no NAT rule matches"},
				types: []string{"nsenter --net=NAMESPACE vxlan_exporter check"},
			},
		},
		{"a device was moved away, and the rules NAT its packets", once(movedAway(), snatOfAddress()), want{
			state: Exposed, codes: []Code{CodeMovedNATed},
			types: []string{"iptables -t raw -I OUTPUT -p udp --dport 4789 -j NOTRACK"},
			says:  []string{"of a device that was moved to another network namespace, would be NATed here"},
		}},
		{"a device was moved away, and its flows are NATed", once(movedAway(), snatOfAddress(), flows(4, 2)), want{
			state: Failing, codes: []Code{CodeMovedNATed}, not: []Code{CodeFlowsNoDevice},
			says: []string{"2 of 4 flows with a rewritten source", "are NATed here"},
		}},
		{
			"a device was moved away, and its flows are NATed though the rules say not",
			once(movedAway(), outer(natrules.NoChange, natrules.WhyNoRule, nil), flows(4, 2)),
			want{
				state: Failing, codes: []Code{CodeMovedNATed},
			},
		},
		{"a device was moved away, not tracked", once(movedAway(), outer(natrules.NoChange, natrules.WhyNotrack, nil),
			flows(4, 2)), want{state: Healthy, codes: []Code{CodeMovedAway}}},
		{
			"a device was moved away, rules not read", once(movedAway(), rulesRefused()),
			want{state: Unknown, codes: []Code{CodeMovedUnknown}, shuns: []string{"NOTRACK"}},
		},
		{
			"a device was moved away, beside one that is here", once(oldRules(), movedBeside(), nattedAt(4789, "10.0.0.1", 2)),
			want{
				state: Failing, b: Exposed, codes: []Code{CodeMovedNATed}, not: []Code{CodeFlowsNoDevice},
			},
		},
		{
			"bad checksums arrive for a device that was moved away",
			twice(all(movedAway(), outer(natrules.NoChange, natrules.WhyNoRule, nil), flows(4, 0)), csum4(3), invalid(3)),
			want{
				state: Failing, codes: []Code{CodeVXLANErrorsLikely}, not: []Code{CodeErrorsElsewhere},
			},
		},
		{"devices not read", once(noDevices(), reading("device", node.Failed, "rtnetlink: deadline exceeded")), want{
			state: Unknown, codes: []Code{CodeResultMissing}, not: []Code{CodeNoDevices},
			says: []string{"rtnetlink: deadline exceeded"},
		}},
		{"an empty observation", &node.Node{}, want{state: Unknown}},
		{"no observation", nil, want{state: Unknown}},
		{"a name that is a trap for shells", once(named("a';rm$(x)"), oldRules(), flows(2, 1)), want{
			state: Failing, types: []string{`ethtool -K 'a'\'';rm$(x)' tx-checksum-ip-generic off`},
		}},
		{"nft node: remedies in nft's words", once(nftOldRules(), flows(2, 1)), want{
			state: Failing, b: Active, types: []string{"nft add rule ip vxlan_remedy output_raw udp dport 8472 notrack"},
			shuns: []string{"iptables"},
		}},
		{"another masquerade bit", once(oldRules(), func(n *node.Node) { n.NATRules.Rulesets[0].Mark = 0x8000 }), want{
			state: Exposed, types: []string{"iptables -I OUTPUT -p udp --dport 8472 -j MARK --set-xmark 0x0/0x8000"},
		}},
		{
			"noudpcsum is not offered where it would create variant A", once(oldKernel(), oldRules(), flows(2, 1)),
			want{state: Failing, b: Active, shuns: []string{"noudpcsum"}},
		},
	}
}

// receiverCases: what the counters say, with every row of the table in receivers.
func receiverCases() []testCase {
	return []testCase{
		{"no conntrack hooks: InCsumErrors and socket drops rise", twice(noConntrack(), csum4(3), drops(3)), want{
			state: Failing, codes: []Code{CodeVXLANErrors}, types: []string{lookThere},
			says: []string{"the VXLAN socket dropped 3: they are VXLAN's"},
		}},
		{"no conntrack hooks, tunnel packets too small for the socket to count", twice(noConntrack(), csum4(3)), want{
			state: Healthy, codes: []Code{CodeErrorsElsewhere}, says: []string{"less than 77 bytes"},
		}},
		{"conntrack active: InCsumErrors and invalid rise, drops stand still", twice(nothing, csum4(3), invalid(3)), want{
			state: Failing, codes: []Code{CodeVXLANErrorsLikely}, not: []Code{CodeVXLANErrors},
			says: []string{"This node cannot prove it"},
		}},
		{
			"conntrack active, and most of the invalid are something else", twice(nothing, csum4(3), invalid(300)),
			want{state: Failing, codes: []Code{CodeVXLANErrorsLikely}},
		},
		{"INVALID dropped in INPUT: invalid alone rises", twice(nothing, invalid(3)), want{
			state: Healthy, codes: []Code{CodeInvalidOnly}, not: []Code{CodeNoErrors},
			types: []string{"sysctl net.netfilter.nf_conntrack_log_invalid=17"},
			says:  []string{"firewalld"},
		}},
		{
			"INVALID may be dropped in INPUT, and who calls what invalid could not be read", twice(invalidUnread(), csum4(0)),
			want{
				state: Unknown, codes: []Code{CodeResultMissing}, not: []Code{CodeNoErrors},
				types: []string{"sudo vxlan_exporter check"},
				says:  []string{"could not be read", "Whether any arrive cannot be told"},
			},
		},
		{"nothing rises, and there is no connection tracking that could drop anything", twice(noConntrack()), want{
			state: Healthy, codes: []Code{CodeNoErrors}, not: []Code{CodeResultMissing},
		}},
		{"nothing rises", twice(nothing), want{
			state: Healthy, codes: []Code{CodeNoErrors},
			says: []string{"none were seen to arrive as VXLAN"},
		}},
		{"bad checksums to a port that is not VXLAN", twice(nothing, csum4(3)), want{
			state: Healthy, codes: []Code{CodeErrorsElsewhere}, not: []Code{CodeVXLANErrors, CodeVXLANErrorsLikely},
			says: []string{"they went to another port"},
		}},
		{"RHEL 7 with IPv6: invalid rises by itself", twice(kernel("3.10.0-1160.el7.x86_64", "#1 SMP"), invalid(32)), want{
			state: Healthy, codes: []Code{CodeNoErrors}, not: []Code{CodeInvalidOnly},
			says: []string{"32 packets invalid, as kernels before 4.20 do"},
		}},
		{"RHEL 7 without IPv6: invalid alone rises", twice(func(n *node.Node) {
			n.Kernel.Release, n.Host.UDP6 = "3.10.0-1160.el7.x86_64", procnet.UDPCounters{}
		}, invalid(3)), want{state: Healthy, codes: []Code{CodeInvalidOnly}}},
		{"bad checksums, no VXLAN here", twice(noDevices(), csum4(7), invalid(7)), want{
			state: Healthy, codes: []Code{CodeErrorsElsewhere}, says: []string{
				"most likely not VXLAN's",
				"no device, no socket on port 8472", "7 UDP packets",
			},
		}},
		{
			"bad checksums over IPv6 where VXLAN is on IPv4", twice(nothing, csum6(5), invalid(5)),
			want{state: Healthy, codes: []Code{CodeErrorsElsewhere}},
		},
		{
			"IPv6 underlay: Udp6InCsumErrors", twice(over6(), csum6(5), invalid(5)),
			want{state: Failing, codes: []Code{CodeVXLANErrorsLikely}},
		},
		{"IPv6 underlay, no conntrack: a zero checksum counts there too", twice(all(over6(), noConntrack()), csum6(5),
			drops(5)), want{
			state: Failing, codes: []Code{CodeVXLANErrors},
		}},
		{"conntrack active, but no VXLAN flow is tracked", twice(flows(0, 0), csum4(3), invalid(3)), want{
			state: Unknown, codes: []Code{CodeErrorsUnclear}, says: []string{"no VXLAN flow is tracked here"},
		}},
		{"conntrack active, flows not permitted", twice(flowsRefused(), csum4(3), invalid(3)), want{
			state: Unknown, codes: []Code{CodeErrorsUnclear}, says: []string{"flows could not be read"},
		}},
		{
			"invalid rises far less than the bad checksums", twice(nothing, csum4(30), invalid(3)),
			want{state: Unknown, codes: []Code{CodeErrorsUnclear}},
		},
		{"devices not read and bad checksums rise", twice(all(noDevices(), reading("device", node.Failed, "no answer")),
			csum4(3)), want{
			state: Unknown, codes: []Code{CodeErrorsUnclear}, not: []Code{CodeErrorsElsewhere},
		}},
		{"no device here, but a socket of one that was moved away", twice(func(n *node.Node) { n.Devices = nil }, csum4(3),
			drops(3)), want{
			state: Failing, codes: []Code{CodeVXLANErrors, CodeNoDevices},
		}},
		{"sender and receiver at once", twice(all(oldRules(), flows(8, 2)), csum4(3), invalid(3)), want{
			state: Failing, b: Active, codes: []Code{CodeNATSpoils, CodeVXLANErrorsLikely},
		}},
		{"one observation only: totals without rates", once(csum4(40)), want{
			state: Healthy, codes: []Code{CodeOneObservation, CodeErrorsEarlier}, not: []Code{CodeNoErrors, CodeVXLANErrors},
			says: []string{"One observation cannot tell"},
		}},
		{"errors in the past, none now", twice(csum4(40)), want{
			state: Healthy, codes: []Code{CodeErrorsEarlier, CodeNoErrors},
			types: []string{"vxlan_exporter check --interval=60s"},
		}},
		{"counters that reset give no rate", twice(csum4(40), func(n *node.Node) { *n.Host.UDP4.InCsumErrors = 2 }), want{
			state: Healthy, codes: []Code{CodeCounterReset, CodeErrorsEarlier}, not: []Code{CodeNoErrors, CodeErrorsElsewhere},
			says: []string{"Udp InCsumErrors"},
		}},
		{"the socket was made anew between the looks", twice(drops(9), newSocket(), csum4(3), invalid(3)), want{
			state: Failing, codes: []Code{CodeCounterReset, CodeVXLANErrorsLikely}, says: []string{"ipv4 port 8472"},
		}},
		{
			"the socket was made anew, no conntrack: cannot tell", twice(all(drops(9), noConntrack()), newSocket(), csum4(3)),
			want{
				state: Unknown, codes: []Code{CodeErrorsUnclear},
			},
		},
		{"rebooted between the looks", twice(nothing, csum4(3), func(n *node.Node) { n.Kernel.BootID = "b2" }), want{
			state: Healthy, codes: []Code{CodeNotComparable}, not: []Code{CodeVXLANErrors, CodeErrorsElsewhere},
			says: []string{"rebooted"},
		}},
		{
			"observations of two hosts", twice(nothing, csum4(3), func(n *node.Node) { n.Hostname = "other" }),
			want{state: Healthy, codes: []Code{CodeNotComparable}},
		},
		{
			"observations in the wrong order",
			twice(nothing, func(n *node.Node) { n.Time = n.Time.Add(-time.Minute) }),
			want{state: Healthy, codes: []Code{CodeNotComparable}},
		},
		{"the kernel has no such counter", twice(func(n *node.Node) { n.Host.UDP4.InCsumErrors = nil }), want{
			state: Unknown, codes: []Code{CodeResultMissing}, says: []string{"does not count bad UDP checksums over ipv4"},
		}},
		{
			"counters not read",
			twice(all(func(n *node.Node) { n.Host = node.Host{} },
				reading("host", node.Failed, "/proc/net/snmp: no such file"))),
			want{
				state: Unknown, codes: []Code{CodeResultMissing}, says: []string{"/proc/net/snmp: no such file"},
			},
		},
		{"D: inner TCP checksums bad, outer fine", twice(nothing, tcpCsum(6)), want{
			state: Unknown, codes: []Code{CodeInnerTCP}, says: []string{"6 TCP segments"},
		}},
		{"D is not concluded while outer checksums are bad", twice(nothing, tcpCsum(6), csum4(3), invalid(3)), want{
			state: Failing, codes: []Code{CodeVXLANErrorsLikely}, not: []Code{CodeInnerTCP},
		}},
		{
			"bad TCP checksums, no VXLAN here", twice(noDevices(), tcpCsum(6)),
			want{state: Healthy, codes: []Code{CodeTCPErrors}, not: []Code{CodeInnerTCP}},
		},
		{
			"C: vmxnet3 with tunnel offloads and symptoms",
			twice(nic("vmxnet3", on("tx-udp_tnl-segmentation"), on("tx-udp_tnl-csum-segmentation")), syn(20)),
			want{
				state: Healthy, codes: []Code{CodeTunnelOffload},
				types: []string{"ethtool -K eth0 tx-udp_tnl-segmentation off tx-udp_tnl-csum-segmentation off"},
			},
		},
		{
			"C: no symptoms, no hint", twice(nic("vmxnet3", on("tx-udp_tnl-segmentation"))),
			want{state: Healthy, not: []Code{CodeTunnelOffload}},
		},
		{
			"C: one look has no symptoms", once(nic("vmxnet3", on("tx-udp_tnl-segmentation")), syn(20)),
			want{state: Healthy, not: []Code{CodeTunnelOffload}},
		},
		{
			"C: offloads off, no hint", twice(nic("ice", txFeatureOff("tx-udp_tnl-segmentation")), syn(20)),
			want{state: Healthy, not: []Code{CodeTunnelOffload}},
		},
		{
			"C: another driver, no hint", twice(nic("virtio_net", on("tx-udp_tnl-segmentation")), syn(20)),
			want{state: Healthy, not: []Code{CodeTunnelOffload}},
		},
		{
			"C and D together", twice(nic("i40e", on("tx-udp_tnl-segmentation")), tcpCsum(4)),
			want{state: Unknown, codes: []Code{CodeTunnelOffload, CodeInnerTCP}},
		},
	}
}

// remedyCases: each measured remedy applied to the live failure.
func remedyCases() []testCase {
	live := all(newKernel(), oldRules(), flows(6, 2))
	return []testCase{
		{"remedy: tx checksum off", once(live, txOff()), want{state: Healthy, b: Clear}},
		{
			"remedy: mark reset, stalled connections still NATed",
			once(live, outer(natrules.NoChange, natrules.WhyMarkReset, nil)),
			want{
				state: Failing, b: Active, codes: []Code{CodeRulesContradicted}, types: []string{deleteCommand},
			},
		},
		{"remedy: mark reset and flows deleted", once(live, outer(natrules.NoChange, natrules.WhyMarkReset, nil),
			flows(4, 0)), want{state: Healthy, b: Clear}},
		{
			"remedy: fixed rules, stalled connections still NATed",
			once(live, outer(natrules.NoChange, natrules.WhyCleared, nil)),
			want{
				state: Failing, b: Active, types: []string{deleteCommand},
			},
		},
		{
			"remedy: fixed rules and flows deleted", once(live, outer(natrules.NoChange, natrules.WhyCleared, nil), flows(4, 0)),
			want{state: Healthy, b: Clear},
		},
		{"remedy: MASQUERADE without random-fully", once(live, notRandom(), flows(4, 0)), want{state: Healthy, b: Clear}},
		{
			"remedy: NOTRACK", once(live, outer(natrules.NoChange, natrules.WhyNotrack, nil), flows(0, 0)),
			want{state: Healthy, b: Clear, codes: []Code{CodeNotracked}},
		},
		{"remedy: noudpcsum where A is fixed", once(live, noudpcsum()), want{state: Healthy, a: Clear, b: Clear}},
		{
			"remedy: noudpcsum on an old kernel creates A", once(live, oldKernel(), noudpcsum()),
			want{state: Failing, a: Active, b: Clear},
		},
	}
}

func allCases() []testCase {
	return slices.Concat(variantCases(), trapCases(), receiverCases(), remedyCases(), wireCases(), pathCases())
}

func TestJudge(t *testing.T) {
	cases := allCases()
	if len(cases) < 60 {
		t.Errorf("only %d cases", len(cases))
	}
	seen := map[Code]bool{}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			d := Judge(c.node)
			for _, f := range d.Findings {
				seen[f.Code] = true
			}
			check(t, d, c.want)
		})
	}
	for _, code := range Codes() {
		if !seen[code] {
			t.Errorf("no case leads to a finding %s", code)
		}
	}
	for code := range seen {
		if !slices.Contains(Codes(), code) {
			t.Errorf("%s is not in Codes", code)
		}
	}
}

func check(t *testing.T, d Diagnosis, w want) {
	t.Helper()
	if d.State != w.state {
		t.Errorf("state %s, want %s", d.State, w.state)
	}
	exposures := map[string]State{}
	text := []string{d.Headline}
	for _, e := range d.Exposures {
		exposures[e.Device+" "+e.Variant] = e.State
		text = append(text, e.Reason)
	}
	for key, s := range w.also {
		if exposures[key] != s {
			t.Errorf("%s is %q, want %q", key, exposures[key], s)
		}
	}
	for variant, s := range map[string]State{node.ZeroChecksum: w.a, node.OffloadedChecksum: w.b} {
		if got := exposures["flannel.1 "+variant]; s != "" && got != s {
			t.Errorf("flannel.1 %s is %q, want %q", variant, got, s)
		}
	}
	var codes []Code
	var commands []string
	for _, f := range d.Findings {
		codes = append(codes, f.Code)
		text = append(text, f.Summary)
		for _, e := range f.Evidence {
			text = append(text, e.Value)
		}
		for _, r := range f.Remedies {
			commands = append(append(commands, r.Commands...), r.Also...)
			text = append(text, r.Title, r.Effect)
		}
	}
	for _, c := range w.codes {
		if !slices.Contains(codes, c) {
			t.Errorf("no finding %s", c)
		}
	}
	for _, c := range w.not {
		if slices.Contains(codes, c) {
			t.Errorf("finding %s is there", c)
		}
	}
	for _, c := range w.types {
		if !slices.Contains(commands, c) {
			t.Errorf("no command %q", c)
		}
	}
	for _, part := range w.shuns {
		if strings.Contains(strings.Join(commands, "\n"), part) {
			t.Errorf("a command has %q", part)
		}
	}
	for _, part := range w.says {
		if !strings.Contains(strings.Join(text, "\n"), part) {
			t.Errorf("nothing says %q", part)
		}
	}
	if t.Failed() {
		t.Logf("headline: %s\nfindings: %v\nexposures: %v\ncommands: %s\ntext:\n%s", d.Headline, codes, d.Exposures,
			strings.Join(commands, "\n"), strings.Join(text, "\n"))
	}
}
