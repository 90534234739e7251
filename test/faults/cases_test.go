package faults_test

import (
	"cmp"
	"errors"
	"slices"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/kerneltest"
	"vxlan_exporter/internal/node"
)

// faults are all faults that are tried.
func faults() []fault {
	return slices.Concat(routeFaults(), ethtoolFaults(), linkStateFaults(), conntrackFaults(), counterFaults(),
		nftablesFaults(), legacyFaults(), surroundingsFaults(), nexthopFaults(), ipSetFaults(), packetFaults(), fileFaults())
}

// breaks makes an interface of the kernel fail.
func breaks(s kerneltest.Source, f kerneltest.Fault) func(m *machine) func() {
	return func(m *machine) func() {
		m.kernel.Break(s, f)
		return func() { m.kernel.Mend(s) }
	}
}

// netlinkFaults are what can be wrong with an answer over netlink. missesDeadline are those that take their time.
func netlinkFaults() map[string]kerneltest.Fault {
	return map[string]kerneltest.Fault{
		"EMFILE, no socket":             {Open: unix.EMFILE},
		"EPERM, no socket":              {Open: unix.EPERM},
		"EPERM, refused":                {Refuse: unix.EPERM},
		"EINTR, refused":                {Refuse: unix.EINTR},
		"EAGAIN, refused":               {Refuse: unix.EAGAIN},
		"ENOBUFS, cannot send":          {Send: unix.ENOBUFS},
		"ENOBUFS, nothing received":     {Receive: unix.ENOBUFS},
		"ENOBUFS in mid-answer":         {Receive: unix.ENOBUFS, After: 1},
		"answer to another request":     {OtherSequence: true},
		"answer to another socket":      {OtherPort: true},
		"changes all the time":          {Interrupted: true},
		"cut-off messages":              {Cut: 3},
		"no answer before the deadline": {Silent: true},
		"answer without end":            {Endless: true},
		"hung system call":              {Hung: true},
	}
}

// onNetlink tries all of them on one interface. change says what each makes of the exposition; a fault that it leaves
// without an outcome is none there.
func onNetlink(s kerneltest.Source, change func(name string, status node.Status, f *fault)) (all []fault) {
	for name, what := range netlinkFaults() {
		f := fault{name: string(s) + "/" + name, broke: breaks(s, what), slow: what.Silent || what.Endless || what.Hung}
		status := node.Failed
		if errors.Is(what.Open, unix.EPERM) || errors.Is(what.Refuse, unix.EPERM) {
			status = node.NotPermitted
		}
		if change(name, status, &f); f.later.fails != nil {
			all = append(all, f)
		}
	}
	slices.SortFunc(all, func(a, b fault) int { return cmp.Compare(a.name, b.name) })
	return all
}

// routeFaults: without the list of links there are no devices and no NICs to tell of; all else is looked at where it
// was before.
func routeFaults() []fault {
	all := onNetlink(kerneltest.Route, func(name string, status node.Status, f *fault) {
		f.later = outcome{fails: statuses{"device": status, "underlay": status}, lost: `vxlan_(device|underlay)_`}
		switch name {
		// a single NIC is no dump, and is answered by one message
		case "ENOBUFS in mid-answer", "changes all the time", "answer without end":
			f.later = outcome{fails: statuses{"device": status}, lost: `vxlan_device_`}
		}
		// From the start on nobody knows which NICs there are, and a port may be used on either family.
		f.start = &outcome{
			fails:   statuses{"device": status, "underlay": node.Failed, "wire": node.Failed},
			lost:    `vxlan_(device|underlay|wire)_`,
			changed: `vxlan_(conntrack|socket)_.*family="ipv6"|vxlan_conntrack_scan_entries`,
		}
	})
	return append(all,
		fault{
			name:  "rtnetlink/ENODEV, a device vanishes in mid-read",
			broke: breaks(kerneltest.Ioctl, kerneltest.Fault{Refuse: unix.ENODEV, Device: kerneltest.ByAddress}),
			later: outcome{lost: `vxlan_device_.*device="vxlan5"`},
		},
		fault{
			name:  "rtnetlink/another device has taken the name over in mid-read",
			broke: breaks(kerneltest.Ioctl, kerneltest.Fault{OtherDevice: true, Device: kerneltest.ByAddress}),
			later: outcome{lost: `vxlan_device_.*device="vxlan5"`},
		},
		fault{
			name:  "rtnetlink/a device vanishes between two scrapes",
			broke: vanishes(kerneltest.Flannel),
			later: outcome{lost: `vxlan_device_.*device="flannel.1"`},
		},
		fault{
			name:  "rtnetlink/the NIC vanishes",
			broke: vanishes(kerneltest.NIC),
			later: outcome{
				fails: statuses{"wire": node.Unsupported}, lost: `vxlan_(underlay|wire)_`, changed: `vxlan_device_info`,
				log: []string{`wire: interface is down`},
			},
			start: &outcome{
				fails: statuses{"wire": node.Unsupported}, lost: `vxlan_(underlay|wire)_`,
				changed: `vxlan_device_info`,
			},
		},
	)
}

func vanishes(name string) func(m *machine) func() {
	return func(m *machine) func() {
		m.kernel.Remove(name)
		// the probe notices by itself, before it hears that there is no such NIC to watch
		if name == kerneltest.NIC && m.scraped {
			m.log.await([]string{"wire: interface is down"})
		}
		return func() { m.kernel.Restore(name) }
	}
}
