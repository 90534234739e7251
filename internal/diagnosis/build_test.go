package diagnosis

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

// change turns the ordinary node into the one of a test case.
type change func(*node.Node)

// ordinary is a node with today's defaults: udpcsum and tx checksum on, kube-proxy's fixed rules, a kernel that has
// variant A fixed.
func ordinary(changes ...change) *node.Node {
	n := &node.Node{
		Schema: node.Schema, Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Hostname: "node-a", Exporter: "1.0.0",
		Results: map[string]node.Result{},
		Kernel: node.Kernel{Info: kernelversion.Info{
			Release: "6.1.0-18-amd64", Version: "#1 SMP PREEMPT_DYNAMIC Debian 6.1.76-1 (2024-02-01)", Machine: "x86_64",
			OS: map[string]string{"ID": "debian", "VERSION_ID": "12", "PRETTY_NAME": "Debian GNU/Linux 12 (bookworm)"},
		}, BootID: "b1"},
		Host: node.Host{
			UDP4: procnet.UDPCounters{
				InDatagrams: new(uint64(90000)), InErrors: new(uint64(0)),
				InCsumErrors: new(uint64(0)), NoPorts: new(uint64(3)),
			},
			UDP6: procnet.UDPCounters{
				InDatagrams: new(uint64(200)), InErrors: new(uint64(0)),
				InCsumErrors: new(uint64(0)), NoPorts: new(uint64(0)),
			},
			TCPInCsumErrors: new(uint64(0)), TCPSynRetrans: new(uint64(12)), TCPTimeouts: new(uint64(9)),
			TCPTimeoutRehash: new(uint64(4)), ConntrackInvalid: new(uint64(0)),
		},
		Sockets: []procnet.Socket{{Family: node.IPv4, Port: 8472, Inode: 4711}},
		Devices: []node.Device{device("flannel.1")},
		Underlays: []node.Underlay{{
			Index: 2, Name: "eth0", MTU: 1500, Driver: ethtool.Driver{Name: "virtio_net", Version: "1.0.0"},
			Features: ethtool.Features{on(txChecksum), on("tx-udp_tnl-segmentation")},
		}},
		Ports: []node.Port{{Port: 8472, IPv4: true, Device: true}},
		Conntrack: node.Conntrack{
			Entries: new(uint64(120)), Limit: new(uint64(262144)), Buckets: new(uint64(65536)),
			Ports: []node.ConntrackPort{{Family: node.IPv4, Port: 8472, Flows: 12}},
			Scan: &node.Scan{
				Time:  time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
				Stats: conntrack.Stats{Entries: 40, Filtered: true, Strategy: conntrack.Filter},
			},
		},
		NATRules: natrules.State{
			Rulesets: []natrules.Ruleset{
				{Family: node.IPv4, Backend: natrules.Legacy, Status: "ok", MarkState: natrules.MarkCleared, Mark: 0x4000},
				{Family: node.IPv4, Backend: natrules.NFT, Status: "none", MarkState: natrules.MarkAbsent},
			},
			Outer: []natrules.Outer{{Family: node.IPv4, Port: 8472, Change: natrules.NoChange, Why: natrules.WhyCleared}},
		},
	}
	for _, name := range []string{"device", "underlay", "host", "socket", "conntrack", "natrules", "kernel"} {
		n.Results[name] = node.Result{Status: node.OK}
	}
	for _, c := range changes {
		c(n)
	}
	return n
}

func device(name string) node.Device {
	return node.Device{
		Link: rtnl.Link{
			Index: 5, Name: name, Up: true, MTU: 1450, VNI: 1, Port: 8472, Local: netip.MustParseAddr("10.0.0.1"),
			UnderlayIndex: 2,
			External:      new(false), UDPChecksum: new(true), UDP6ZeroChecksumTx: new(false), UDP6ZeroChecksumRx: new(false),
		},
		Underlay: "eth0",
		Features: ethtool.Features{on(txChecksum), on("tx-tcp-segmentation")},
	}
}

func on(name string) ethtool.Feature {
	return ethtool.Feature{Name: name, Available: true, Requested: true, Active: true}
}

func txFeatureOff(name string) ethtool.Feature { return ethtool.Feature{Name: name, Available: true} }

func eachDevice(f func(*node.Device)) change {
	return func(n *node.Node) {
		for i := range n.Devices {
			f(&n.Devices[i])
		}
	}
}

// The conditions, as changes.
func noudpcsum() change { return eachDevice(func(d *node.Device) { d.UDPChecksum = new(false) }) }

func txOff() change {
	return eachDevice(func(d *node.Device) {
		d.Features = ethtool.Features{{Name: txChecksum, Available: true}, on("tx-tcp-segmentation")}
	})
}

func txOffRequestedOn() change {
	return eachDevice(func(d *node.Device) {
		d.Features = ethtool.Features{{Name: txChecksum, Available: true, Requested: true}}
	})
}

func txUnread() change {
	return eachDevice(func(d *node.Device) { d.Features, d.FeaturesError = nil, "SIOCETHTOOL: operation not permitted" })
}

func external() change {
	return eachDevice(func(d *node.Device) { d.External, d.VNI, d.Local = new(true), 0, netip.Addr{} })
}

func down() change { return eachDevice(func(d *node.Device) { d.Up = false }) }

// movedHere makes the devices ones that were made in another namespace, where their sockets stayed.
func movedHere() change {
	return all(eachDevice(func(d *node.Device) { d.LinkNetns = new(int32(7)) }), func(n *node.Node) { n.Sockets = nil })
}

func oldAttributes() change {
	return eachDevice(func(d *node.Device) {
		d.External, d.UDPChecksum, d.UDP6ZeroChecksumTx, d.UDP6ZeroChecksumRx = nil, nil, nil, nil
	})
}

func named(name string) change { return eachDevice(func(d *node.Device) { d.Name = name }) }

func second(name string, changes ...func(*node.Device)) change {
	return func(n *node.Node) {
		d := device(name)
		for _, c := range changes {
			c(&d)
		}
		n.Devices = append(n.Devices, d)
	}
}

// over6 puts the underlay on IPv6: device, socket, port, flows and rules.
func over6() change {
	return func(n *node.Node) {
		for i := range n.Devices {
			n.Devices[i].Local = netip.MustParseAddr("fd00::1")
		}
		n.Sockets = []procnet.Socket{{Family: node.IPv6, Port: 8472, Inode: 4711}}
		n.Ports = []node.Port{{Port: 8472, IPv6: true, Device: true}}
		for i := range n.Conntrack.Ports {
			n.Conntrack.Ports[i].Family = node.IPv6
		}
		for i := range n.NATRules.Rulesets {
			n.NATRules.Rulesets[i].Family = node.IPv6
		}
		for i := range n.NATRules.Outer {
			n.NATRules.Outer[i].Family = node.IPv6
		}
	}
}

func zeroTx6() change { return eachDevice(func(d *node.Device) { d.UDP6ZeroChecksumTx = new(true) }) }

// kernel sets the release; the build string goes with it.
func kernel(releaseString, version string) change {
	return func(n *node.Node) {
		n.Kernel.Info = kernelversion.Info{Release: releaseString, Version: version, Machine: "x86_64"}
	}
}

func oldKernel() change { return kernel("4.19.100", "#1 SMP Mon Feb 3 2020") } // mainline numbers, before 4.19.123
func newKernel() change { return kernel("6.18.0", "#1 SMP") }

func vendorKernel() change {
	return kernel("5.3.18-24.75-default", "#1 SMP Thu Jul 15 10:17:42 UTC 2021 (ab12cd3)") // SLES
}

func selfTested(variant, family, verdict string) change {
	return func(n *node.Node) {
		if n.Kernel.SelfTest == nil {
			n.Kernel.SelfTest = &node.SelfTest{BootID: n.Kernel.BootID, Release: n.Kernel.Release}
		}
		n.Kernel.SelfTest.Results = append(n.Kernel.SelfTest.Results, node.SelfTestResult{
			Variant: variant, Family: family,
			Verdict: verdict,
		})
	}
}

// outer sets the judgment on the NAT rules.
func outer(c natrules.Change, why natrules.Why, rule *natrules.Rule) change {
	return func(n *node.Node) {
		for i := range n.NATRules.Outer {
			n.NATRules.Outer[i].Change, n.NATRules.Outer[i].Why, n.NATRules.Outer[i].Rule = c, why, rule
		}
	}
}

func oldRules() change {
	return outer(natrules.PortChange, natrules.WhyKept, &natrules.Rule{
		Role: "masquerade", Table: "nat", Chain: "KUBE-POSTROUTING",
		Text: "-A KUBE-POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully",
	})
}

func notRandom() change { return outer(natrules.NoChange, natrules.WhyNotRandom, nil) }

func bypassed() change {
	return outer(natrules.PortChange, natrules.WhyBypassed, &natrules.Rule{
		Role: "bypass", Table: "nat", Chain: "POSTROUTING", Text: "-A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE --random-fully",
	})
}

func restored() change {
	return outer(natrules.PortChange, natrules.WhyRestored, &natrules.Rule{
		Role: "restores", Table: "mangle", Chain: "PREROUTING", Text: "-A PREROUTING -j CONNMARK --restore-mark",
	})
}

func chainsOfOnePriority() change {
	return all(outer(natrules.UnsureChange, natrules.WhyOrder, &natrules.Rule{
		Role: "bypass", Table: "nat", Chain: "POSTROUTING",
		Text: "-A POSTROUTING ! -s 10.244.0.0/16 -d 10.244.0.0/16 -j MASQUERADE",
	}), func(n *node.Node) {
		n.NATRules.Outer[0].Other = &natrules.Rule{
			Role: "clears", Table: "ip kube-proxy", Chain: "masquerading",
			Text: "meta mark & 0x00004000 != 0 meta mark set meta mark ^ 0x00004000 masquerade fully-random",
		}
	})
}

func snatOfAddress() change {
	return outer(natrules.AddrChange, natrules.WhyBypassed, &natrules.Rule{
		Role: "bypass", Table: "nat", Chain: "POSTROUTING", Text: "-A POSTROUTING -o eth0 -j SNAT --to-source 192.0.2.9",
	})
}

func nftOldRules() change {
	return outer(natrules.PortChange, natrules.WhyKept, &natrules.Rule{
		Role: "masquerade", Table: "ip kube-proxy", Chain: "nat-postrouting",
		Text: "meta mark & 0x00004000 == 0x00004000 masquerade fully-random",
	})
}

func rulesRefused() change {
	return func(n *node.Node) {
		n.Results["natrules"] = node.Result{
			Status: node.NotPermitted,
			Error:  "natrules: operation not permitted (needs CAP_NET_ADMIN)",
		}
		n.NATRules = natrules.State{}
	}
}

// flows sets what conntrack has of the first port.
func flows(tracked, snat uint64) change {
	return func(n *node.Node) {
		n.Conntrack.Ports[0].Flows, n.Conntrack.Ports[0].SNAT = tracked, snat
		if snat > 0 {
			n.Conntrack.NATFlows = []node.NATFlow{{
				Source: netip.MustParseAddrPort("10.0.0.1:60142"), Destination: netip.MustParseAddrPort("10.0.0.2:8472"),
				NATSource: netip.MustParseAddrPort("10.0.0.1:33012"), NATDestination: netip.MustParseAddrPort("10.0.0.2:8472"),
			}}
		}
	}
}

// nattedFrom gives the first port source-NATed flows of one address, as a scan lists them.
func nattedFrom(address string, snat uint64) change { return nattedAt(8472, address, snat) }

func nattedAt(port uint16, address string, snat uint64) change {
	return func(n *node.Node) {
		for i := range n.Conntrack.Ports {
			if n.Conntrack.Ports[i].Port == port {
				n.Conntrack.Ports[i].SNAT += snat
			}
		}
		n.Conntrack.Sources = append(n.Conntrack.Sources, node.NATSource{
			Family: node.IPv4, Port: port, Address: netip.MustParseAddr(address), Flows: snat, Remaining: 25 * time.Second,
			Seen: n.Time,
		})
	}
}

// used, born and seen say when a packet met one of the listed NATed flows, when one was made, and when one was there
// last; rulesSince says since when the rules are as they are. All are relative to the look.
func used(d time.Duration) change {
	return func(n *node.Node) { n.Conntrack.Sources[0].Used = n.Time.Add(d) }
}

func born(d time.Duration) change {
	return func(n *node.Node) { n.Conntrack.Sources[0].Born = n.Time.Add(d) }
}

func seen(d time.Duration) change {
	return func(n *node.Node) { n.Conntrack.Sources[0].Seen = n.Time.Add(d) }
}

func rulesSince(d time.Duration) change {
	return func(n *node.Node) { n.NATRules.Outer[0].Since = n.Time.Add(d) }
}

// from sets the address that a device sends from; empty: it names none.
func from(address string) func(*node.Device) {
	return func(d *node.Device) {
		d.Local = netip.Addr{}
		if address != "" {
			d.Local = netip.MustParseAddr(address)
		}
	}
}

func flowsRefused() change {
	return func(n *node.Node) {
		n.Results["conntrack"] = node.Result{
			Status: node.NotPermitted,
			Error:  "conntrack: dump ipv4: operation not permitted (needs CAP_NET_ADMIN)",
		}
		n.Conntrack = node.Conntrack{}
	}
}

func noConntrack() change {
	return func(n *node.Node) {
		n.Results["conntrack"] = node.Result{Status: node.None, Error: "no such file"}
		n.Conntrack, n.Host.ConntrackInvalid = node.Conntrack{}, nil
	}
}

// invalidUnread is a kernel without /proc/net/stat/nf_conntrack, read without CAP_NET_ADMIN.
func invalidUnread() change { return func(n *node.Node) { n.Host.ConntrackInvalid = nil } }

func reading(name string, s node.Status, text string) change {
	return func(n *node.Node) { n.Results[name] = node.Result{Status: s, Error: text} }
}

func noDevices() change {
	return func(n *node.Node) {
		n.Devices, n.Sockets, n.Ports[0].Device = nil, nil, false
		n.Conntrack.Ports[0].Flows = 0
	}
}

// movedAway leaves of the device what one that Docker Swarm moved leaves here: the kernel's socket on port 4789.
func movedAway() change {
	return func(n *node.Node) {
		n.Devices, n.Sockets[0].Port, n.Conntrack.Ports[0].Port, n.NATRules.Outer[0].Port = nil, 4789, 4789, 4789
		n.Ports = []node.Port{{Port: 4789, IPv4: true}}
	}
}

// movedBeside adds the socket of a device that was moved away, whose packets nothing NATs.
func movedBeside() change {
	return func(n *node.Node) {
		n.Sockets = append(n.Sockets, procnet.Socket{Family: node.IPv4, Port: 4789, Inode: 4712})
		n.Ports = append(n.Ports, node.Port{Port: 4789, IPv4: true})
		n.NATRules.Outer = append(n.NATRules.Outer, natrules.Outer{
			Family: node.IPv4, Port: 4789, Change: natrules.NoChange,
			Why: natrules.WhyNoRule,
		})
		n.Conntrack.Ports = append(n.Conntrack.Ports, node.ConntrackPort{Family: node.IPv4, Port: 4789, Flows: 2})
	}
}

// Counters, as rises over the first look.
func csum4(d uint64) change   { return func(n *node.Node) { *n.Host.UDP4.InCsumErrors += d } }
func csum6(d uint64) change   { return func(n *node.Node) { *n.Host.UDP6.InCsumErrors += d } }
func tcpCsum(d uint64) change { return func(n *node.Node) { *n.Host.TCPInCsumErrors += d } }
func invalid(d uint64) change { return func(n *node.Node) { *n.Host.ConntrackInvalid += d } }
func syn(d uint64) change     { return func(n *node.Node) { *n.Host.TCPSynRetrans += d } }
func drops(d uint64) change   { return func(n *node.Node) { n.Sockets[0].Drops += d } }
func newSocket() change       { return func(n *node.Node) { n.Sockets[0].Inode++ } }

func nic(driver string, features ...ethtool.Feature) change {
	return func(n *node.Node) {
		n.Underlays[0].Driver, n.Underlays[0].Features = ethtool.Driver{Name: driver, Version: "1.5.0.0-k"}, features
	}
}

func all(changes ...change) change {
	return func(n *node.Node) {
		for _, c := range changes {
			c(n)
		}
	}
}

// once is a single observation.
func once(changes ...change) *node.Node { return ordinary(changes...) }

// twice is two observations 5 s apart: the node is the same in both but for what rose.
func twice(setting change, rises ...change) *node.Node {
	before, now := ordinary(setting), ordinary(setting)
	for _, c := range rises {
		c(now)
	}
	now.Time = now.Time.Add(5 * time.Second)
	now.Earlier = before
	return now
}

func nothing(*node.Node) {}
