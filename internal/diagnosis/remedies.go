package diagnosis

import (
	"fmt"
	"strings"

	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

// The effects and costs below were measured on a live failure: the failure reproduced, the remedy applied, then a new
// connection opened and one that had stalled before watched. docs/DIAGNOSIS.md has the table.

const moreRights = "Look again with more rights"

// remedies for a device that is exposed, the quickest cure first.
func (j *judge) remedies(v verdict) []Remedy {
	var r []Remedy
	if v.nat.unread {
		r = append(r, readRulesRemedy(v.nat.rule))
	}
	r = append(r, offloadOff(v.device.Name))
	if !v.nat.unread {
		r = append(r, j.ruleRemedies(v)...)
	} else {
		r = append(r, notrack(v, nil))
	}
	return append(r, j.otherChecksum(v)...)
}

// undecidedRemedies are for a device of which not enough is known: find out, and the switch that helps in any case.
func (j *judge) undecidedRemedies(v verdict) []Remedy {
	if v.device.LinkNetns != nil {
		r := Remedy{
			Title:    "Look from the namespace that its packets leave through",
			Commands: []string{"ip netns list-id", "nsenter --net=NAMESPACE vxlan_exporter check"},
			Effect: "the first command shows which namespace the link-netnsid is; rules, flows and counters there are the " +
				"ones that count",
			Cost: "none", Diagnostic: true,
		}
		if path := v.device.LinkNetnsPath; path != "" {
			r.Commands = []string{"nsenter --net=" + shellWord(path) + " vxlan_exporter check"}
			r.Effect = "rules, flows and counters there are the ones that count"
		}
		return []Remedy{r}
	}
	var r []Remedy
	if v.nat.unread {
		r = append(r, readRulesRemedy(v.nat.rule))
	}
	if v.kernel.holds == unsure {
		r = append(r, selfTestRemedy())
	}
	if v.checksum.holds == unsure {
		r = append(r, captureOut(v))
	}
	if v.nat.flows {
		r = append(r, offloadOff(v.device.Name))
	}
	return r
}

func offloadOff(device string) Remedy {
	return Remedy{
		Title:        "Finish checksums before the packet is encapsulated",
		Commands:     []string{"ethtool -K " + shellWord(device) + " " + txChecksum + " off"},
		Effect:       "new connections work at once; a stalled one at its next retransmit",
		Cost:         "about a third of the overlay's throughput (33 % measured at MTU-sized packets)",
		CuresStalled: true,
		Persist:      "until the CNI plugin recreates the device, or the node reboots",
	}
}

// ruleRemedies stop the outer packet from being NATed. Flows that are NATed already keep their NAT until they are
// deleted.
func (j *judge) ruleRemedies(v verdict) []Remedy {
	var r []Remedy
	switch v.nat.reason {
	case natrules.WhyKept:
		r = append(r, Remedy{
			Title:        "Upgrade kube-proxy",
			Effect:       "1.16.13, 1.17.9, 1.18.6 and 1.19 and later clear the mark before MASQUERADE; new connections work",
			Cost:         "a restart of kube-proxy on each node",
			CuresStalled: true, Also: deleteFlows(v.key).Commands,
			Persist: "for good, unless another rule that masquerades is put ahead of KUBE-POSTROUTING",
		}, j.markReset(v))
	case natrules.WhyBypassed:
		r = append(r, bypassing(v))
	case natrules.WhyOrder:
		r = append(r, j.anyOrder(v))
	case natrules.WhyRestored:
		r = append(r, j.maskRestore(v), j.markReset(v))
	}
	return append(r, notrack(v, v.nat.rule))
}

func bypassing(v verdict) Remedy {
	what := "the rule that NATs the tunnel's packets"
	if v.nat.rule != nil {
		what = "the rule " + quote(v.nat.rule)
	}
	r := Remedy{
		Title: "Move or narrow the rule that runs first",
		Effect: "put " + what + " behind KUBE-POSTROUTING, or exclude UDP port " + fmt.Sprint(v.key.port) +
			" from it; new connections work",
		Cost:         "none for VXLAN; what else the rule is for must still be served",
		CuresStalled: true, Also: deleteFlows(v.key).Commands,
		Persist: "until its owner (another CNI component, Docker, a firewall) writes it again: change it there",
	}
	if v.nat.change == natrules.PortChange {
		r.Effect += ". Without --random-fully it would keep the source port, which helps too"
	}
	return r
}

// anyOrder makes the order of two chains not matter.
func (j *judge) anyOrder(v verdict) Remedy {
	return Remedy{
		Title: "Let the rule leave the tunnel alone, whatever the order",
		Effect: fmt.Sprintf("let %s skip packets with the mark %#x, as current versions of flannel do, or UDP port %d; new "+
			"connections work",
			quoteChain(v.nat.rule), j.markOf(v.key.family), v.key.port),
		Cost:         "none for VXLAN; what else the rule is for is still served",
		CuresStalled: true, Also: deleteFlows(v.key).Commands,
		Persist: "until its owner writes it again: upgrade or change it there",
	}
}

// maskRestore keeps the masquerade mark out of what is saved in connections, and out of what marks every packet.
func (j *judge) maskRestore(v verdict) Remedy {
	mark := j.markOf(v.key.family)
	what := "the rule"
	if v.nat.rule != nil {
		what = "the rule " + quote(v.nat.rule)
	}
	return Remedy{
		Title: "Mark packets without the masquerade bit",
		Effect: fmt.Sprintf("where %s restores a connection's mark, give it a mask: --restore-mark --nfmask %#x --ctmask "+
			"%#x, or meta mark set ct mark and %#x in "+
			"nftables; and where it is saved, likewise. Where it sets a mark itself, take another bit than %#x", what, ^mark,
			^mark, ^mark, mark),
		Cost:         "none, unless somebody else uses the bit",
		CuresStalled: true, Also: deleteFlows(v.key).Commands,
		Persist: "until its owner writes it again: change it there",
	}
}

// markOf is the masquerade mark of a family; kube-proxy's default, --iptables-masquerade-bit=14, where the rules do not
// tell.
func (j *judge) markOf(family string) uint32 {
	if mark := j.marks[family]; mark != 0 {
		return mark
	}
	return 0x4000
}

// markReset clears the masquerade mark of tunnel packets in filter OUTPUT, before nat POSTROUTING sees them.
func (j *judge) markReset(v verdict) Remedy {
	mark := j.markOf(v.key.family)
	r := Remedy{
		Title:        "Clear the mark of the tunnel's packets",
		Effect:       "new connections work",
		Cost:         "one more rule for each packet sent",
		CuresStalled: true, Also: deleteFlows(v.key).Commands,
		Persist: "until reboot or a firewall reload, unless saved",
	}
	if nftSyntax(v.nat.rule) {
		r.Commands = nftOutput(v, "filter - 1", fmt.Sprintf("meta mark set meta mark and %#08x", ^mark))
		return r
	}
	r.Commands = []string{fmt.Sprintf("%s -I OUTPUT -p udp --dport %d -j MARK --set-xmark 0x0/%#x", iptables(v.key.family),
		v.key.port, mark)}
	return r
}

func notrack(v verdict, rule *natrules.Rule) Remedy {
	r := Remedy{
		Title:  "Do not track the tunnel's packets",
		Effect: "new connections work at once; a stalled one at its next retransmit",
		Cost: "rules that match the tunnel by connection state no longer do: accept its port without state; " +
			"conntrack shows none of its flows any more",
		CuresStalled: true,
		Persist:      "until reboot or a firewall reload, unless saved",
	}
	if nftSyntax(rule) {
		r.Commands = nftOutput(v, "raw", "notrack")
		return r
	}
	r.Commands = []string{fmt.Sprintf("%s -t raw -I OUTPUT -p udp --dport %d -j NOTRACK", iptables(v.key.family),
		v.key.port)}
	return r
}

func iptables(family string) string {
	if family == node.IPv6 {
		return "ip6tables"
	}
	return "iptables"
}

// nftSyntax reports whether the deciding rule was quoted in nft's words: such a node may have no iptables program.
func nftSyntax(r *natrules.Rule) bool {
	return r != nil && !strings.HasPrefix(strings.TrimSpace(r.Text), "-")
}

func nftOutput(v verdict, priority, statement string) []string {
	family := "ip"
	if v.key.family == node.IPv6 {
		family = "ip6"
	}
	chain := "output_" + strings.Fields(priority)[0]
	return []string{
		"nft add table " + family + " vxlan_remedy",
		fmt.Sprintf("nft add chain %s vxlan_remedy %s '{ type filter hook output priority %s; }'", family, chain, priority),
		fmt.Sprintf("nft add rule %s vxlan_remedy %s udp dport %d %s", family, chain, v.key.port, statement),
	}
}

func deleteFlows(key portKey) Remedy {
	cmd := "conntrack -D"
	if key.family == node.IPv6 {
		cmd += " -f ipv6"
	}
	return Remedy{
		Title:        "Delete the NATed flows",
		Commands:     []string{fmt.Sprintf("%s -p udp --dport %d", cmd, key.port)},
		Effect:       "the next packet of each makes a new flow, which today's rules decide about",
		Cost:         "none: the tunnel's flows are made again by the next packet",
		CuresStalled: true,
	}
}

// findRule finds the rule that NATs flows which the rules seem to leave alone.
func findRule(key portKey) Remedy {
	return Remedy{
		Title:    "Find the rule that NATs them",
		Commands: []string{iptables(key.family) + "-save -c -t nat"},
		Effect: "the first number in front of a rule rises with each flow that it is the last to decide: type it before " +
			"and after a new NATed flow, and look which MASQUERADE or SNAT has risen (native nftables rules count only where " +
			"they say counter)",
		Cost: "none", Diagnostic: true,
	}
}

// otherChecksum is the switch of the outer checksum: turning it off ends variant B, but only where variant A is fixed.
func (j *judge) otherChecksum(v verdict) []Remedy {
	if v.variant == node.ZeroChecksum {
		return []Remedy{{
			Title: "Upgrade the kernel",
			Effect: "5.7, 5.6.13, 5.4.41, 4.19.123, 4.14.181 and later do not spoil a checksum that is off, nor do " +
				"distributions' kernels with the fix",
			Cost:         "a reboot",
			CuresStalled: true,
			Persist: "for good; recreating the device with udpcsum instead is no cure, it has the same failure in its " +
				"other variant",
		}}
	}
	if v.key.family == node.IPv6 || v.device.IsExternal() ||
		j.kernels[[2]string{node.ZeroChecksum, v.key.family}].holds != no {
		return nil // on an affected kernel it would trade variant B for variant A
	}
	return []Remedy{{
		Title: "Recreate the device with noudpcsum",
		Effect: "new connections work, because this kernel has variant " + node.ZeroChecksum +
			" fixed; on kernels without that fix it creates it",
		Cost:    "the overlay is down while the device is recreated; nothing checks the outer packets any more",
		Persist: "as long as the CNI plugin is told to make it so; UDP_CSUM cannot be changed on a live device",
	}}
}

func readRulesRemedy(rule *natrules.Rule) Remedy {
	if rule != nil {
		return Remedy{
			Title:    "Look at the rule that was not understood",
			Commands: []string{"iptables-save -t nat; nft list ruleset"},
			Effect:   "shows whether a tunnel packet can reach MASQUERADE: " + quote(rule), Cost: "none", Diagnostic: true,
		}
	}
	return Remedy{
		Title:    moreRights,
		Commands: []string{"sudo vxlan_exporter check"},
		Effect: "NAT rules and flows are shown to CAP_NET_ADMIN only; rules that guard the tunnel's packets make the " +
			"device clear", Cost: "none", Diagnostic: true,
	}
}

func selfTestRemedy() Remedy {
	return Remedy{
		Title:    "Prove it on this kernel",
		Commands: []string{"sudo vxlan_exporter selftest"},
		Effect: "sends packets through NAT in throwaway namespaces and looks at their checksums; " +
			string(kernelversion.Fixed) + " there counts more than any version",
		Cost: "a few seconds; the node's own network is not touched", Diagnostic: true,
	}
}

// captureOut looks at what really leaves. A sender's capture cannot show whether a checksum is good, for the NIC may
// still finish it, but whether the field is 0 it does.
func captureOut(v verdict) Remedy {
	dev := v.device.Underlay
	if dev == "" {
		dev = "any"
	}
	filter := fmt.Sprintf("udp dst port %d and udp[6:2] != 0", v.key.port)
	if v.key.family == node.IPv6 {
		filter = fmt.Sprintf("ip6 and udp dst port %d and ip6[46:2] != 0", v.key.port)
	}
	return Remedy{
		Title:    "See whether outer checksums are written",
		Commands: []string{"timeout 10 tcpdump -c 5 -ni " + shellWord(dev) + " '" + filter + "'"},
		Effect: "packets here mean that they are (" + node.OffloadedChecksum +
			" is the variant to look for), none that they are not (" + node.ZeroChecksum + ")",
		Cost: "none", Diagnostic: true,
	}
}
