package natrules

import (
	"net"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// nativeForms are rules as nft takes them; {ip} is ip or ip6.
func nativeForms() []form {
	nft := func(rules string) map[string]string { return map[string]string{NFT: rules} }
	const kube = `table {ip} kube-proxy {
	chain masquerading {
		meta mark & 0x4000 == 0 return
		meta mark set meta mark ^ 0x4000
		masquerade fully-random
	}
	chain services {
		{ip} daddr . meta l4proto . th dport vmap { {local} . tcp . 80 : drop }
	}
	chain nat-output {
		type nat hook output priority -100
		jump services
	}
	chain nat-postrouting {
		type nat hook postrouting priority srcnat
		jump masquerading
	}
}
`
	// pkg/proxy/nftables: one rule since 1.36
	kube36 := strings.NewReplacer("meta mark & 0x4000 == 0 return\n", "", "meta mark ^ 0x4000\n\t\tmasquerade", "meta mark ^ 0x4000 masquerade",
		"\t\tmeta mark set", "\t\tmeta mark & 0x4000 != 0 meta mark set").Replace(kube)
	oldKube := strings.NewReplacer("meta mark set meta mark ^ 0x4000\n", "\n").Replace(kube)
	return []form{
		{"kube-proxy", nft(kube), MarkCleared, isTrue, NoChange, WhyCleared},
		{"kube-proxy old", nft(oldKube), MarkKept, isTrue, PortChange, WhyKept},
		{
			"kube-proxy bypassed", nft(kube + "table {ip} other { chain post { type nat hook postrouting priority 90; masquerade fully-random; }; }\n"),
			MarkBypassed, isTrue, PortChange, WhyBypassed,
		},
		{"kube-proxy since 1.36", nft(kube36), MarkCleared, isTrue, NoChange, WhyCleared},
		{"kube-proxy since 1.36, another bit", nft(strings.ReplaceAll(kube36, "0x4000", "0x8000")), MarkCleared, isTrue, NoChange, WhyCleared},
		{"kube-proxy since 1.36, the highest bit", nft(strings.ReplaceAll(kube36, "0x4000", "0x80000000")), MarkCleared, isTrue, NoChange, WhyCleared},
		{
			"kube-proxy since 1.36, another bit, bypassed",
			nft(strings.ReplaceAll(kube36, "0x4000", "0x8000") + "table {ip} other { chain post { type nat hook postrouting priority 90; masquerade fully-random; }; }\n"),
			MarkBypassed, isTrue, PortChange, WhyBypassed,
		},
		{
			"younger chain of the same priority", nft(kube + "table inet other { chain post { type nat hook postrouting priority 100; masquerade random; }; }\n"),
			MarkUnknown, isTrue, PortChange, WhyBypassed,
		},
		{
			"older chain of the same priority", nft("table inet other { chain post { type nat hook postrouting priority 100; oifname \"flannel*\" masquerade random; }; }\n" + kube),
			MarkUnknown, isTrue, UnsureChange, WhyOrder,
		},
		{
			"same priority, no matter", nft(kube + "table inet other { chain post { type nat hook postrouting priority 100; {ip} saddr {docker} masquerade random; }; }\n"),
			MarkCleared, isTrue, NoChange, WhyCleared,
		},
		{"notrack", nft(oldKube + "table inet raw2 { chain out { type filter hook output priority raw; udp dport { 4789, 8472 } notrack; }; }\n"), MarkKept, isTrue, NoChange, WhyNotrack},
		{"notrack too late", nft(oldKube + "table inet raw2 { chain out { type filter hook output priority mangle; udp dport 8472 notrack; }; }\n"), MarkKept, isTrue, PortChange, WhyKept},
		{"mark reset", nft(oldKube + "table inet m { chain out { type route hook output priority mangle; udp dport 8000-9000 meta mark set meta mark & 0xffffbfff; }; }\n"), MarkKept, isTrue, NoChange, WhyMarkReset},
		{"mark set to 0", nft(oldKube + "table {ip} m { chain out { type filter hook postrouting priority 0; meta l4proto udp th dport 8472 counter meta mark set 0; }; }\n"), MarkKept, isTrue, NoChange, WhyMarkReset},
		{"mark reset after NAT", nft(oldKube + "table {ip} m { chain out { type filter hook postrouting priority 150; udp dport 8472 meta mark set 0; }; }\n"), MarkKept, isTrue, PortChange, WhyKept},
		{"dormant", nft(strings.Replace(oldKube, "kube-proxy {", "kube-proxy { flags dormant;", 1)), MarkAbsent, nil, NoChange, WhyNoRule},
		{"flannel", nft(kube + `table {ip} flannel {
	chain postrtg {
		type nat hook postrouting priority 90
		meta mark & 0x4000 == 0x4000 return
		{ip} saddr {pods} {ip} daddr {cluster} return
		{ip} saddr {cluster} {ip} daddr != {multicast} masquerade fully-random
		{ip} saddr != {cluster} {ip} daddr {cluster} masquerade fully-random
	}
}
`), MarkCleared, isTrue, NoChange, WhyCleared},
		{"calico sets", nft(kube + `table {ip} calico {
	set masq { type {addr}; flags interval; elements = { {cluster} }; }
	set every { type {addr}; flags interval; elements = { {cluster}, {docker} }; }
	chain post {
		type nat hook postrouting priority 90
		{ip} saddr @masq {ip} daddr != @every masquerade fully-random
	}
}
`), MarkCleared, isTrue, NoChange, WhyCleared},
		{"set that holds the node", nft(kube + `table {ip} calico {
	set masq { type {addr}; flags interval; elements = { {node} }; }
	chain post {
		type nat hook postrouting priority 90
		{ip} saddr @masq masquerade fully-random
	}
}
`), MarkBypassed, isTrue, PortChange, WhyBypassed},
		{"vmap", nft(`table inet v {
	chain a { masquerade fully-random; }
	chain b { return; }
	chain post {
		type nat hook postrouting priority 90
		meta l4proto vmap { tcp : drop, udp : jump b }
		udp dport vmap { 4789 : jump b, 8472 : jump a }
	}
}
`), MarkAbsent, nil, PortChange, WhyBypassed},
		{"snat", nft("table {ip} s { chain post { type nat hook postrouting priority srcnat; oifname eth0 snat to {other}; }; }\n"), MarkAbsent, nil, AddrChange, WhyBypassed},
		{"snat to itself", nft("table {ip} s { chain post { type nat hook postrouting priority srcnat; oifname eth0 snat to {local}; }; }\n"), MarkAbsent, nil, NoChange, WhyNotRandom},
		{"snat of the port", nft("table {ip} s { chain post { type nat hook postrouting priority srcnat; udp dport 8472 snat to :1024-2048; }; }\n"), MarkAbsent, nil, PortChange, WhyBypassed},
		{"masquerade to ports", nft("table {ip} s { chain post { type nat hook postrouting priority srcnat; udp dport 8472 masquerade to :1024-2048; }; }\n"), MarkAbsent, nil, PortChange, WhyBypassed},
		{"fib", nft("table inet s { chain post { type nat hook postrouting priority srcnat; fib saddr type local fib daddr type != local ct state new masquerade random; }; }\n"), MarkAbsent, nil, PortChange, WhyBypassed},
		{"drop first", nft(oldKube + "table inet s { chain out { type filter hook output priority 0; policy drop; meta l4proto != udp accept; }; }\n"), MarkKept, isTrue, NoChange, WhyNoRule},
		{"numgen", nft("table inet s { chain post { type nat hook postrouting priority srcnat; numgen random mod 2 == 0 masquerade random; }; }\n"), MarkAbsent, nil, UnsureChange, WhyUnread},
		{"limit without effect", nft(kube + "table inet s { chain out { type filter hook output priority 0; limit rate 1/second counter; }; }\n"), MarkCleared, isTrue, NoChange, WhyCleared},
		{"goto", nft(`table {ip} s {
	chain c { oifname "nothing" drop; }
	chain b { goto c; masquerade random; }
	chain a { meta mark != 0xffff jump b; iifname "lo" accept; masquerade fully-random; }
	chain post { type nat hook postrouting priority srcnat; meta protocol {ip} jump a; }
}
`), MarkAbsent, nil, PortChange, WhyBypassed},
	}
}

// TestNativeForms is TestForms for rules written by nft.
func TestNativeForms(t *testing.T) {
	eachOracle(t, func(t *testing.T, o *oracle) {
		v := strings.NewReplacer("{ip}", "ip", "{addr}", "ipv4_addr", "{nfproto}", "ipv4")
		if o.ipv6 {
			v = strings.NewReplacer("{ip}", "ip6", "{addr}", "ipv6_addr", "{nfproto}", "ipv6")
		}
		for _, f := range nativeForms() {
			t.Run(strings.ReplaceAll(f.name, " ", "_"), func(t *testing.T) {
				o.t = t
				o.reset()
				o.a.RunInput(o.fill(v.Replace(f.tables[NFT])), "nft", "-f", "-")
				s, err := o.read()
				if err != nil {
					t.Fatal(err)
				}
				o.check(s, NFT, f)
			})
		}
	})
}

// TestIPVSForm has rules that match ip sets, as kube-proxy's ipvs mode and Calico write them.
func TestIPVSForm(t *testing.T) {
	eachOracle(t, func(t *testing.T, o *oracle) {
		family := uint8(unix.AF_INET)
		cluster := "10.244.0.0"
		loopback, pools := "KUBE-LOOP-BACK", "cali40masq"
		cidr := uint8(16)
		if o.ipv6 {
			family, cluster, loopback, pools = unix.AF_INET6, "fd44::", "KUBE-6-LOOP-BACK", "cali60masq"
		}
		o.a.Do(func() error {
			h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
			if err != nil {
				return err
			}
			defer h.Close()
			for name, kind := range map[string]string{loopback: "hash:ip,port,ip", pools: "hash:net", "nodes": "hash:ip"} {
				if err := h.IpsetCreate(name, kind, netlink.IpsetCreateOptions{Family: family}); err != nil {
					return err
				}
			}
			if err := h.IpsetAdd(pools, &netlink.IPSetEntry{IP: net.ParseIP(cluster), CIDR: cidr}); err != nil {
				return err
			}
			return h.IpsetAdd("nodes", &netlink.IPSetEntry{IP: net.IP(o.local.AsSlice())})
		})
		ipvs := "-A POSTROUTING -m set --match-set " + loopback + " dst,dst,src -j MASQUERADE\n" + kubeFixed
		tables := func(rules string) map[string]string { return map[string]string{"nat": rules} }
		for _, f := range []form{
			{"ipvs", tables(ipvs), MarkCleared, isTrue, NoChange, WhyCleared},
			{"calico", tables("-A POSTROUTING -m set --match-set " + pools + " src -m set ! --match-set " + pools + " dst -j MASQUERADE --random-fully\n" + kubeFixed), MarkCleared, isTrue, NoChange, WhyCleared},
			{"not in the pools", tables("-A POSTROUTING -m set ! --match-set " + pools + " src -j MASQUERADE --random-fully\n" + kubeFixed), MarkBypassed, isTrue, PortChange, WhyBypassed},
			{"the node itself", tables("-A POSTROUTING -m set --match-set nodes src -j MASQUERADE --random-fully\n" + kubeFixed), MarkBypassed, isTrue, PortChange, WhyBypassed},
		} {
			for _, backend := range []string{Legacy, NFT} {
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
		o.reset() // sets that rules refer to cannot go with the namespace before the rules
	})
}
