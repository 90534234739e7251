// Package services writes the rules of a large cluster as kube-proxy programs them: many services of three endpoints each.
package services

import (
	"fmt"
	"strings"
)

const endpoints = 3

func clusterIP(i int) string { return fmt.Sprintf("10.%d.%d.%d", 96+i>>16, i>>8&255, i&255) }

func endpoint(i, k int) string {
	return fmt.Sprintf("10.244.%d.%d", (i*endpoints+k)>>8&255, (i*endpoints+k)&255)
}

// Iptables is the nat table of n services for iptables-restore, with kube-proxy's fixed KUBE-POSTROUTING.
func Iptables(n int) string {
	var chains, services, rules strings.Builder
	for i := range n {
		name, ip := fmt.Sprintf("namespace-%d/service-%d:http", i%40, i), clusterIP(i)
		fmt.Fprintf(&chains, ":KUBE-SVC-%016X - [0:0]\n", i)
		fmt.Fprintf(&services, "-A KUBE-SERVICES -d %s/32 -p tcp -m comment --comment \"%s cluster IP\" -m tcp --dport 80 -j KUBE-SVC-%016X\n", ip, name, i)
		fmt.Fprintf(&rules, "-A KUBE-SVC-%016X ! -s 10.244.0.0/16 -d %s/32 -p tcp -m comment --comment \"%s cluster IP\" -m tcp --dport 80 -j KUBE-MARK-MASQ\n", i, ip, name)
		for k := range endpoints {
			probability := fmt.Sprintf("-m statistic --mode random --probability %.11f ", 1/float64(endpoints-k))
			if k == endpoints-1 {
				probability = ""
			}
			fmt.Fprintf(&chains, ":KUBE-SEP-%015X%d - [0:0]\n", i, k)
			fmt.Fprintf(&rules, `-A KUBE-SVC-%016[1]X -m comment --comment "%[2]s -> %[3]s:8080" %[4]s-j KUBE-SEP-%015[1]X%[5]d
-A KUBE-SEP-%015[1]X%[5]d -s %[3]s/32 -m comment --comment %[2]s -j KUBE-MARK-MASQ
-A KUBE-SEP-%015[1]X%[5]d -p tcp -m comment --comment %[2]s -m tcp -j DNAT --to-destination %[3]s:8080
`, i, name, endpoint(i, k), probability, k)
		}
	}
	return `*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
` + chains.String() + `-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
` + services.String() + `-A KUBE-SERVICES -m comment --comment "kubernetes service nodeports" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
` + rules.String() + "COMMIT\n"
}

// Nftables is the table of n services of kube-proxy's nftables mode, for nft -f.
func Nftables(n int) string {
	var elements, chains strings.Builder
	for i := range n {
		ip := clusterIP(i)
		fmt.Fprintf(&elements, "%s . tcp . 80 : goto service-%d, ", ip, i)
		var vmap []string
		for k := range endpoints {
			vmap = append(vmap, fmt.Sprintf("%d : goto endpoint-%d-%d", k, i, k))
			fmt.Fprintf(&chains, "chain endpoint-%d-%d { ip saddr %[3]s jump mark-for-masquerade; meta l4proto tcp dnat to %[3]s:8080; }\n", i, k, endpoint(i, k))
		}
		fmt.Fprintf(&chains, "chain service-%d { ip daddr %s tcp dport 80 ip saddr != 10.244.0.0/16 jump mark-for-masquerade; numgen random mod %d vmap { %s }; }\n",
			i, ip, endpoints, strings.Join(vmap, ", "))
	}
	return `table ip kube-proxy {
chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
` + chains.String() + `map service-ips { type ipv4_addr . inet_proto . inet_service : verdict; elements = { ` + elements.String() + `} }
chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
chain masquerading { meta mark & 0x4000 == 0 return; meta mark set meta mark ^ 0x4000; masquerade fully-random; }
chain nat-prerouting { type nat hook prerouting priority dstnat; jump services; }
chain nat-output { type nat hook output priority -100; jump services; }
chain nat-postrouting { type nat hook postrouting priority srcnat; jump masquerading; }
}
`
}
