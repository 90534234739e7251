package lab

import (
	"fmt"
	"strings"
)

// applyNFTables makes node A's native nftables rules what the options say. Nothing runs when there were none and shall
// be none.
func (r *Rig) applyNFTables() error {
	const was = "nft"
	input := r.kubeProxyTables() + r.imitationTables()
	if input == "" && !r.tables[was] {
		return nil
	}
	r.tables[was] = true
	// Declaring a table before deleting it makes the deletion succeed in every case (nft(8), "flush ruleset" aside).
	var clean strings.Builder
	for _, table := range []string{"ip kube-proxy", "ip6 kube-proxy", "inet imitation"} {
		fmt.Fprintf(&clean, "table %[1]s {}\ndelete table %[1]s\n", table)
	}
	_, err := r.A.Configure(clean.String()+input, "nft", "-f", "-")
	return err
}

// kubeProxyTables are the tables of kube-proxy's nftables mode, cut down to one service
// (pkg/proxy/nftables/proxier.go).
func (r *Rig) kubeProxyTables() string {
	if !r.opts.Rules.nftables() {
		return ""
	}
	xor := ""
	if r.opts.Rules == RulesNFTables {
		xor = "mark set mark xor {mark}"
	}
	v := strings.NewReplacer("{xor}", xor, "{mark}", fmt.Sprintf("%#08x", r.opts.mark()),
		"{nodeport}", fmt.Sprint(NodePort), "{endpoint}", fmt.Sprintf("%s:%d", podIP, PodPort))
	const masquerading = `
	chain masquerading {
		mark and {mark} == 0 return
		{xor}
		masquerade fully-random
	}
	chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
`
	table := "table ip kube-proxy {" + masquerading + `
	chain mark-for-masquerade { mark set mark or {mark}; }
	chain endpoint-tcp { meta l4proto tcp dnat to {endpoint}; }
	chain endpoint-udp { meta l4proto udp dnat to {endpoint}; }
	chain external-tcp { jump mark-for-masquerade; goto endpoint-tcp; }
	chain external-udp { jump mark-for-masquerade; goto endpoint-udp; }
	map service-nodeports {
		type inet_proto . inet_service : verdict
		comment "NodePort traffic"
		elements = { tcp . {nodeport} : goto external-tcp, udp . {nodeport} : goto external-udp }
	}
	chain services { fib daddr type local ip daddr != 127.0.0.0/8 meta l4proto . th dport vmap @service-nodeports; }
	chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
	chain nat-output { type nat hook output priority -100; jump services; }
}
table ip6 kube-proxy {` + masquerading + "}\n"
	return v.Replace(v.Replace(table)) // twice: {xor} holds {mark}
}

// imitationTables make the sender write what a kernel with the zero-checksum bug writes (net/netfilter/nf_nat_proto.c
// before ea64d8d6c675): a NATed packet whose inner checksum is still unfinished gets CSUM_MANGLED_0 where the outer
// field was 0.
func (r *Rig) imitationTables() string {
	if !r.opts.ImitateA || !r.opts.TxChecksum {
		return ""
	}
	// Behind source NAT, at the priority of conntrack's helpers. @th,48,16 is the checksum field of the UDP header (RFC
	// 768). What is unfinished the rules cannot see: they take inner TCP for it, and inner UDP that has a checksum (IPv4
	// in Ethernet: the protocol at byte 39 behind the outer UDP header's beginning, the inner UDP checksum at byte 56).
	return fmt.Sprintf(`table inet imitation {
	chain postrouting {
		type filter hook postrouting priority 300;
		udp dport %[1]d ct status snat @th,48,16 0 @th,312,8 6 @th,48,16 set 0xffff
		udp dport %[1]d ct status snat @th,48,16 0 @th,312,8 17 @th,448,16 != 0 @th,48,16 set 0xffff
	}
}
`, r.opts.Port)
}
