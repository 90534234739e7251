package faults_test

import (
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/kerneltest"
	"vxlan_exporter/internal/node"
)

// What depends on the features of devices, on flows and on rules: the exposure that is judged from them.
const (
	exposures        = `vxlan_device_exposure`
	featuresOf       = `vxlan_(device|underlay)_feature_`
	exposureOfActive = `vxlan_device_exposure\{device="flannel.1",state="(active|exposed)",variant="offloaded_checksum"`
)

// ethtoolFaults: the devices are there, and what could not be read of them is not.
func ethtoolFaults() []fault {
	both := func(fails node.Status) outcome {
		return outcome{
			fails: statuses{"device": fails, "underlay": fails}, lost: featuresOf, changed: exposures + `|vxlan_underlay_info`,
		}
	}
	return []fault{
		{
			name: "SIOCETHTOOL/EMFILE, no socket", broke: breaks(kerneltest.Ioctl, kerneltest.Fault{Open: unix.EMFILE}),
			later: both(node.Failed),
		},
		{
			name: "SIOCETHTOOL/EINTR", broke: breaks(kerneltest.Ioctl, kerneltest.Fault{Refuse: unix.EINTR}),
			later: both(node.Failed),
		},
		{
			name:  "SIOCETHTOOL/EIO of one device",
			broke: breaks(kerneltest.Ioctl, kerneltest.Fault{Refuse: unix.EIO, Device: kerneltest.Flannel}),
			later: outcome{
				fails: statuses{"device": node.Failed}, lost: `vxlan_device_feature_.*device="flannel.1"`,
				changed: `vxlan_device_exposure\{device="flannel.1"`,
			},
		},
		{
			name: "SIOCETHTOOL/EPERM, refused", broke: breaks(kerneltest.Ioctl, kerneltest.Fault{Refuse: unix.EPERM}),
			later: both(node.NotPermitted),
		},
		{
			name: "SIOCETHTOOL/names and features that do not match", broke: breaks(kerneltest.Ioctl, kerneltest.Fault{Cut: 1}),
			later: outcome{}, // the names are known by then
			start: &outcome{
				fails: statuses{"device": node.Failed, "underlay": node.Failed}, lost: featuresOf,
				changed: exposures,
			},
		},
		{
			name: "SIOCETHTOOL/hung system call", slow: true, broke: breaks(kerneltest.Ioctl, kerneltest.Fault{Hung: true}),
			later: outcome{fails: statuses{"device": node.Failed, "underlay": node.Failed}, lost: `vxlan_(device|underlay)_`},
			start: &outcome{
				fails:   statuses{"device": node.Failed, "underlay": node.Failed, "wire": node.Failed},
				lost:    `vxlan_(device|underlay|wire)_`,
				changed: `vxlan_(conntrack|socket)_.*family="ipv6"|vxlan_conntrack_scan_entries`,
			},
		},
	}
}

// linkStateFaults: where the ioctl works, link state and private flags alone need generic netlink. A kernel that has no
// answer is no failure: the carrier is known from rtnetlink.
func linkStateFaults() []fault {
	const flags = `vxlan_underlay_private_flag`
	all := onNetlink(kerneltest.Generic, func(name string, status node.Status, f *fault) {
		f.name = "link state/" + name
		f.later = outcome{fails: statuses{"underlay": status}, lost: flags}
		switch name {
		case "ENOBUFS in mid-answer", "changes all the time": // the answers are single messages
			f.later.fails = nil
		}
	})
	return append(all, fault{
		name: "link state/an answer that comes twice", broke: breaks(kerneltest.Generic, kerneltest.Fault{Repeated: true}),
		later: outcome{fails: statuses{"underlay": node.Failed}, lost: flags},
	}, fault{
		name:  "link state/the family \"ethtool\" is gone",
		broke: breaks(kerneltest.Generic, kerneltest.Fault{Refuse: unix.ENOENT}),
		later: outcome{lost: flags},
	}, fault{
		name:  "link state/the driver has neither",
		broke: breaks(kerneltest.Generic, kerneltest.Fault{Refuse: unix.EOPNOTSUPP, After: 1}),
		later: outcome{lost: flags},
	})
}

// conntrackFaults: the last complete scan goes on to be served, marked stale; without one there are no flows, not even
// 0.
func conntrackFaults() []fault {
	served := func(status node.Status) outcome {
		return outcome{fails: statuses{"conntrack": status}, changed: `vxlan_conntrack_scan_(stale|entries|filtered)|` +
			exposureOfActive}
	}
	never := func(status node.Status) *outcome {
		return &outcome{
			fails: statuses{"conntrack": status}, lost: `vxlan_conntrack_(flows|nat_flows|last_snat|scan)`,
			changed: exposureOfActive,
		}
	}
	all := onNetlink(kerneltest.Conntrack, func(name string, status node.Status, f *fault) {
		f.later, f.start = served(status), never(status)
		switch name {
		case "EMFILE, no socket", "EPERM, no socket": // the socket is open by then
			f.later = outcome{fails: statuses{}}
		// on a machine that is too busy, the last scan does not come back either
		case "no answer before the deadline", "answer without end":
			f.later.changed = `vxlan_conntrack_|` + exposureOfActive
			f.start.changed = f.later.changed
		case "hung system call":
			f.later, f.start = outcome{
				fails: statuses{"conntrack": status}, lost: `vxlan_conntrack_`,
				changed: exposureOfActive,
			}, nil
		}
	})
	lost := func(name, lost string, status node.Status, broke func(m *machine) func()) fault {
		return fault{name: "connection tracking/" + name, broke: broke, later: outcome{
			fails: statuses{"conntrack": status},
			lost:  lost, changed: exposureOfActive,
		}}
	}
	const dir = "sys/net/netfilter/"
	modules := func(m *machine) func() { // the modules are not loaded: no sysctl, no statistics
		all := []func(){m.proc.Missing(dir), m.proc.Missing("net/stat/nf_conntrack")}
		return func() {
			for _, mend := range all {
				mend()
			}
		}
	}
	absent := lost("the modules are absent", `vxlan_conntrack_|vxlan_host_conntrack_invalid_total`, node.None, modules)
	ctnetlink := fault{
		name:  "connection tracking/ctnetlink is absent",
		broke: breaks(kerneltest.Conntrack, kerneltest.Fault{Refuse: unix.EINVAL}),
		later: served(node.Unsupported), start: never(node.Unsupported),
	}
	hung := lost("a sysctl hangs", `vxlan_conntrack_`, node.Failed,
		func(m *machine) func() { return m.proc.Hung(dir + "nf_conntrack_count") })
	hung.slow, hung.hangs = true, true
	return append(all, absent, ctnetlink, hung,
		lost("EIO of nf_conntrack_count", `vxlan_conntrack_`, node.Failed,
			func(m *machine) func() { return m.proc.Unreadable(dir + "nf_conntrack_count") }),
		lost("nf_conntrack_count is empty", `vxlan_conntrack_`, node.Failed,
			func(m *machine) func() { return m.proc.Holds(dir+"nf_conntrack_count", "") }),
		lost("nf_conntrack_count never ends", `vxlan_conntrack_`, node.Failed,
			func(m *machine) func() { return m.proc.Endless(dir + "nf_conntrack_count") }),
		lost("nf_conntrack_max is half a line of nonsense", `vxlan_conntrack_entries_limit`, node.Failed,
			func(m *machine) func() {
				return m.proc.Holds(dir+"nf_conntrack_max", "2621x")
			}),
		fault{
			name:  "connection tracking/nf_conntrack_max is not there",
			broke: func(m *machine) func() { return m.proc.Missing(dir + "nf_conntrack_max") },
			later: outcome{lost: `vxlan_conntrack_entries_limit`}, // a namespace other than the first may not show it
		},
	)
}

// packetFaults: what was counted stays; where nothing ever was, there is nothing.
func packetFaults() []fault {
	wire := func(status node.Status) *outcome {
		return &outcome{fails: statuses{"wire": status}, lost: `vxlan_wire_`}
	}
	again := outcome{fails: statuses{"wire": node.Failed}, changed: `vxlan_wire_interfaces`, told: true}
	return []fault{
		{
			name: "packet socket/EPERM, no socket", broke: breaks(kerneltest.Packets, kerneltest.Fault{Open: unix.EPERM}),
			start: wire(node.NotPermitted),
		},
		{
			name: "packet socket/EMFILE, no socket", broke: breaks(kerneltest.Packets, kerneltest.Fault{Open: unix.EMFILE}),
			start: wire(node.Failed),
		},
		{
			name: "packet socket/ENOBUFS, cannot bind", broke: breaks(kerneltest.Packets, kerneltest.Fault{Send: unix.ENOBUFS}),
			start: wire(node.Failed),
		},
		{
			name:  "packet socket/ENOBUFS in mid-read",
			broke: breaks(kerneltest.Packets, kerneltest.Fault{Receive: unix.ENOBUFS}), later: again,
		},
		{
			name:  "packet socket/ENETDOWN, the NIC goes down",
			broke: breaks(kerneltest.Packets, kerneltest.Fault{Receive: unix.ENETDOWN}),
			later: outcome{
				changed: `vxlan_wire_interfaces`, log: []string{`wire: interface is down`},
				mended: []string{`wire: interface is up again`},
			},
		},
		// nobody waits for packets
		{name: "packet socket/hung system call", broke: breaks(kerneltest.Packets, kerneltest.Fault{Hung: true})},
	}
}

// counterFaults: kernels without /proc/net/stat/nf_conntrack tell the packets that connection tracking calls invalid
// over ctnetlink. Where that may not be asked there is no such counter, not 0.
func counterFaults() []fault {
	return onNetlink(kerneltest.Counters, func(name string, status node.Status, f *fault) {
		broke := f.broke
		f.broke = func(m *machine) func() {
			found, mended := m.proc.Missing("net/stat/nf_conntrack"), broke(m)
			return func() {
				mended()
				found()
			}
		}
		f.later = outcome{fails: statuses{"host": status}, lost: `vxlan_host_conntrack_invalid_total`}
		switch {
		case status == node.NotPermitted:
			f.later.fails = statuses{}
		case name == "hung system call":
			f.later.lost = `vxlan_host_`
		}
	})
}
