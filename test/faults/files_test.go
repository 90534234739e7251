package faults_test

import (
	"strings"

	"vxlan_exporter/internal/kernel/kerneltest"
	"vxlan_exporter/internal/node"
)

// fileFaults break files of procfs. A file that a node may lack is no failure when it is not there.
func fileFaults() []fault {
	const ipv4, ipv6 = `vxlan_host_(udp_.*family="ipv4"|tcp_in_csum)`, `vxlan_host_udp_.*family="ipv6"`
	var all []fault
	add := func(name string, o outcome, broke func(p *kerneltest.Proc) func()) {
		all = append(all, fault{
			name: name, later: o, broke: func(m *machine) func() { return broke(m.proc) },
			slow: strings.HasSuffix(name, "hangs"), hangs: strings.HasSuffix(name, "hangs"),
		})
	}
	fails := func(collector, lost string) outcome {
		return outcome{fails: statuses{collector: node.Failed}, lost: lost}
	}
	lacks := func(lost string) outcome { return outcome{lost: lost} }

	for _, f := range []struct{ collector, file, lost, missing string }{
		{"host", "net/snmp", ipv4, "fails"},
		{"host", "net/netstat", `vxlan_host_tcp_(syn|timeout)`, "fails"},
		{"host", "net/snmp6", ipv6, "lacks"},
		{"host", "net/stat/nf_conntrack", `vxlan_host_conntrack_invalid_total`, "asks"},
		{"socket", "net/udp", `vxlan_socket_drops_total.*ipv4`, "fails"},
		{"socket", "net/udp6", `vxlan_socket_drops_total.*ipv6`, "lacks"},
	} {
		missing := fails(f.collector, f.lost)
		switch f.missing {
		case "lacks":
			missing = lacks(f.lost)
		case "asks": // the same comes over netlink
			missing = outcome{}
		}
		add(f.file+" is not there", missing, func(p *kerneltest.Proc) func() { return p.Missing(f.file) })
		add(f.file+" cannot be read: EIO", fails(f.collector, f.lost),
			func(p *kerneltest.Proc) func() { return p.Unreadable(f.file) })
		add(f.file+" is a line without end", fails(f.collector, f.lost),
			func(p *kerneltest.Proc) func() { return p.Endless(f.file) })
		half := fails(f.collector, f.lost)
		if f.file == "net/snmp6" { // to the library, a name without a value is a counter that the kernel does not have
			half = lacks(f.lost)
		}
		add(f.file+" is half a line", half, func(p *kerneltest.Proc) func() { return p.Holds(f.file, halfALine(f.file)) })
	}
	// A reader that hangs in open(2) takes all that its collector reads along.
	add("net/snmp hangs", fails("host", `vxlan_host_`), func(p *kerneltest.Proc) func() { return p.Hung("net/snmp") })
	add("net/udp6 hangs", fails("socket", `vxlan_socket_`), func(p *kerneltest.Proc) func() { return p.Hung("net/udp6") })
	return append(all, kernelFaults()...)
}

// halfALine is what is left of a file when its writer stops in the middle: names without values, a CPU without all of
// its columns, a socket without its drops.
func halfALine(file string) string {
	switch file {
	case "net/snmp":
		return "Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors SndbufErrors InCsumErrors\nUdp: 90211 70 13"
	case "net/netstat":
		return "TcpExt: SyncookiesSent TCPTimeouts TCPSynRetrans TcpTimeoutRehash\nTcpExt: 0 0"
	case "net/snmp6":
		return "Udp6InCsumErrors                \t"
	case "net/stat/nf_conntrack":
		return "entries  searched found new invalid ignore\n00000018  0001b207 001f9a21 0000f1ba"
	default:
		return "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref " +
			"pointer drops\n" +
			" 7100: 00000000:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 18211 2 0000"
	}
}

// kernelFaults: what is true until the next boot is read once, so that a file which breaks later does no harm; the
// stored self-test is read every time.
func kernelFaults() []fault {
	const bug, release, selfTest = `vxlan_kernel_nat_checksum_bug`, `vxlan_kernel_nat_checksum_bug.*evidence="release"`,
		`vxlan_kernel_nat_checksum_bug.*evidence="selftest"`
	unknown := release + `|` + exposures
	var all []fault
	add := func(name string, later, start outcome, broke func(p *kerneltest.Proc) func()) {
		all = append(all, fault{
			name: name, later: later, start: &start, broke: func(m *machine) func() { return broke(m.proc) },
			slow: strings.HasSuffix(name, "hangs"), hangs: strings.HasSuffix(name, "hangs"),
		})
	}
	failed := statuses{"kernel": node.Failed}
	const osrelease, bootID = "sys/kernel/osrelease", "sys/kernel/random/boot_id"
	for name, broke := range map[string]func(p *kerneltest.Proc) func(){
		"is not there":        func(p *kerneltest.Proc) func() { return p.Missing(osrelease) },
		"cannot be read: EIO": func(p *kerneltest.Proc) func() { return p.Unreadable(osrelease) },
	} {
		add(osrelease+" "+name, outcome{}, outcome{fails: failed, lost: selfTest, changed: unknown}, broke)
	}
	// natrules reads it every time, for how the kernel orders NAT hooks.
	add(osrelease+" hangs", outcome{fails: statuses{"natrules": node.Failed}, lost: `vxlan_nat_`, changed: exposures},
		outcome{
			fails: statuses{"kernel": node.Failed, "natrules": node.Failed}, lost: bug + `|vxlan_nat_`,
			changed: exposures,
		},
		func(p *kerneltest.Proc) func() { return p.Hung(osrelease) })
	for name, broke := range map[string]func(p *kerneltest.Proc) func(){
		"is not there":        func(p *kerneltest.Proc) func() { return p.Missing(bootID) },
		"cannot be read: EIO": func(p *kerneltest.Proc) func() { return p.Unreadable(bootID) },
		"is half written":     func(p *kerneltest.Proc) func() { return p.Half(bootID) },
		"never ends":          func(p *kerneltest.Proc) func() { return p.Endless(bootID) },
	} {
		add(bootID+" "+name, outcome{}, outcome{fails: failed, lost: selfTest, changed: exposures}, broke)
	}
	const stored = "selftest.json"
	nothing := outcome{lost: selfTest, changed: exposures}
	broken := outcome{fails: failed, lost: selfTest, changed: exposures}
	add("the stored self-test is not there", nothing, nothing,
		func(p *kerneltest.Proc) func() { return p.Missing(stored) })
	add("the stored self-test is half written", broken, broken, func(p *kerneltest.Proc) func() { return p.Half(stored) })
	add("the stored self-test cannot be read: EIO", broken, broken,
		func(p *kerneltest.Proc) func() { return p.Unreadable(stored) })
	add("os-release cannot be read: EIO", outcome{}, outcome{fails: failed},
		func(p *kerneltest.Proc) func() { return p.Unreadable("os-release") })
	add("os-release is not there", outcome{}, outcome{},
		func(p *kerneltest.Proc) func() { return p.Missing("os-release") })
	return all
}
