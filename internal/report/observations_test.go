package report

import (
	"net/netip"
	"time"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/kernel/procnet"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

// oneNode is a Kubernetes node with flannel, looked at after seconds.
func oneNode(seconds int) *node.Node {
	feature := func(name string, on bool) ethtool.Feature {
		return ethtool.Feature{Name: name, Available: true, Requested: on, Active: on}
	}
	n := &node.Node{
		Schema: node.Schema, Time: time.Date(2026, 3, 1, 12, 0, seconds, 0, time.UTC), Hostname: "worker-3",
		Exporter: "1.0.0",
		Results:  map[string]node.Result{},
		Kernel: node.Kernel{BootID: "5b1c", Info: kernelversion.Info{
			Release: "6.18.0", Version: "#1 SMP PREEMPT_DYNAMIC Mon Dec 1 10:00:00 UTC 2025",
			OS: map[string]string{"PRETTY_NAME": "Debian GNU/Linux 13 (trixie)"},
		}},
		Host: node.Host{
			UDP4: procnet.UDPCounters{
				InDatagrams: new(uint64(1203944)), InErrors: new(uint64(2)),
				InCsumErrors: new(uint64(0)), NoPorts: new(uint64(7)),
			},
			UDP6: procnet.UDPCounters{
				InDatagrams: new(uint64(310)), InErrors: new(uint64(0)),
				InCsumErrors: new(uint64(0)), NoPorts: new(uint64(0)),
			},
			TCPInCsumErrors: new(uint64(0)), TCPSynRetrans: new(uint64(391)), TCPTimeouts: new(uint64(402)),
			TCPTimeoutRehash: new(uint64(57)),
			ConntrackInvalid: new(uint64(1180)),
		},
		Sockets: []procnet.Socket{{Family: node.IPv4, Port: 8472, Inode: 20711}},
		Devices: []node.Device{{
			Link: rtnl.Link{
				Index: 4, Name: "flannel.1", Up: true, MTU: 1450, VNI: 1, Port: 8472, Local: netip.MustParseAddr("10.0.0.13"),
				UnderlayIndex: 2,
				External:      new(false), UDPChecksum: new(true), UDP6ZeroChecksumTx: new(false), UDP6ZeroChecksumRx: new(false),
			},
			Underlay: "eth0", Features: ethtool.Features{
				feature("tx-checksum-ip-generic", true),
				feature("tx-tcp-segmentation", true),
			},
		}},
		Underlays: []node.Underlay{{Index: 2, Name: "eth0", MTU: 1500, Driver: ethtool.Driver{
			Name:    "virtio_net",
			Version: "1.0.0",
		}}},
		Ports: []node.Port{{Port: 8472, IPv4: true, Device: true}},
		Conntrack: node.Conntrack{
			Entries: new(uint64(20417)), Limit: new(uint64(262144)), Buckets: new(uint64(65536)),
			Ports: []node.ConntrackPort{{Family: node.IPv4, Port: 8472, Flows: 48}},
			Scan:  &node.Scan{Stats: conntrack.Stats{Entries: 900, Filtered: true, Strategy: conntrack.Filter}},
		},
		NATRules: natrules.State{
			Rulesets: []natrules.Ruleset{
				{Family: node.IPv4, Backend: natrules.Legacy, Status: "none", MarkState: natrules.MarkAbsent},
				{
					Family: node.IPv4, Backend: natrules.NFT, Status: "ok", MarkState: natrules.MarkCleared, Mark: 0x4000,
					RandomFully: new(true),
				},
			},
			Outer: []natrules.Outer{{
				Family: node.IPv4, Port: 8472, Change: natrules.NoChange, Why: natrules.WhyCleared,
				Rule: &natrules.Rule{
					Role: "clears", Table: "nat", Chain: "KUBE-POSTROUTING",
					Text: "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
				},
			}},
		},
	}
	for _, name := range []string{"device", "underlay", "host", "socket", "conntrack", "natrules", "kernel"} {
		n.Results[name] = node.Result{Status: node.OK, Duration: time.Millisecond}
	}
	return n
}

func oldRules(n *node.Node) {
	n.NATRules.Rulesets[1].MarkState = natrules.MarkKept
	n.NATRules.Outer[0] = natrules.Outer{
		Family: node.IPv4, Port: 8472, Change: natrules.PortChange, Why: natrules.WhyKept,
		Rule: &natrules.Rule{
			Role: "masquerade", Table: "nat", Chain: "KUBE-POSTROUTING",
			Text: `-A KUBE-POSTROUTING -m comment --comment "kubernetes service traffic requiring SNAT" ` +
				`-m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully`,
		},
	}
}

// observations are of the four states that a reader meets.
func observations() map[string]*node.Node {
	pair := func(set func(*node.Node), rise func(*node.Node)) *node.Node {
		n := oneNode(5)
		n.Earlier = oneNode(0)
		set(n.Earlier)
		set(n)
		rise(n)
		return n
	}
	nothing := func(*node.Node) {}
	return map[string]*node.Node{
		"healthy": pair(nothing, func(n *node.Node) { *n.Host.TCPSynRetrans += 2; *n.Host.TCPTimeouts += 2 }),
		"exposed": pair(oldRules, nothing),
		"failing": pair(func(n *node.Node) {
			oldRules(n)
			n.Conntrack.Ports[0].SNAT, n.Conntrack.Ports[0].SeenSNAT = 3, 41
			for i, port := range []string{"33012", "1714", "60877"} {
				n.Conntrack.NATFlows = append(n.Conntrack.NATFlows, node.NATFlow{
					Source:         netip.MustParseAddrPort("10.0.0.13:" + []string{"60142", "41887", "52210"}[i]),
					Destination:    netip.MustParseAddrPort("10.0.0.11:8472"),
					NATSource:      netip.MustParseAddrPort("10.0.0.13:" + port),
					NATDestination: netip.MustParseAddrPort("10.0.0.11:8472"),
				})
			}
		}, func(n *node.Node) {
			*n.Host.UDP4.InCsumErrors += 4
			*n.Host.UDP4.InErrors += 4
			*n.Host.ConntrackInvalid += 4
			*n.Host.TCPSynRetrans += 9
			*n.Host.TCPTimeouts += 9
		}),
		"unknown": pair(func(n *node.Node) {
			n.Devices[0].Name, n.Devices[0].External, n.Devices[0].VNI, n.Devices[0].Local = "cilium_vxlan", new(true), 0,
				netip.Addr{}
			n.Devices[0].Underlay = ""
			n.NATRules, n.Conntrack = natrules.State{}, node.Conntrack{}
			n.Results["natrules"] = node.Result{
				Status: node.NotPermitted,
				Error:  "natrules: read ipv4 rules over nfnetlink: operation not permitted (needs CAP_NET_ADMIN)",
			}
			n.Results["conntrack"] = node.Result{
				Status: node.NotPermitted,
				Error:  "conntrack: dump ipv4: operation not permitted (needs CAP_NET_ADMIN)",
			}
		}, nothing),
	}
}
