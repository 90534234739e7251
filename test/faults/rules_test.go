package faults_test

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/kerneltest"
	"vxlan_exporter/internal/node"
)

// nftablesFaults: no judgment on the rules of nf_tables, and none on the devices that rests on it.
func nftablesFaults() []fault {
	gone := func(status node.Status) outcome {
		return outcome{fails: statuses{"natrules": status}, lost: `vxlan_nat_`, changed: exposures}
	}
	all := onNetlink(kerneltest.NFTables, func(_ string, status node.Status, f *fault) { f.later = gone(status) })
	names := func(name string, broke func(p *kerneltest.Proc) func()) fault {
		return fault{
			name: "iptables/ip_tables_names " + name, broke: func(m *machine) func() { return broke(m.proc) },
			later: outcome{fails: statuses{"natrules": node.Failed}, changed: exposures + `|vxlan_nat_`},
		}
	}
	return append(all,
		names("cannot be read: EIO", func(p *kerneltest.Proc) func() { return p.Unreadable("net/ip_tables_names") }),
		names("never ends", func(p *kerneltest.Proc) func() { return p.Endless("net/ip_tables_names") }),
	)
}

// legacyFaults: no judgment on the rules of ip_tables, and none on the devices that rests on them; those of nf_tables
// are judged.
func legacyFaults() []fault {
	var all []fault
	for _, c := range []struct {
		name   string
		fault  kerneltest.Fault
		status node.Status
	}{
		{"EMFILE, no socket", kerneltest.Fault{Open: unix.EMFILE}, node.Failed},
		{"EPERM, no socket", kerneltest.Fault{Open: unix.EPERM}, node.NotPermitted},
		{"EPERM, refused", kerneltest.Fault{Refuse: unix.EPERM}, node.NotPermitted},
		{"EINTR, refused", kerneltest.Fault{Refuse: unix.EINTR}, node.Failed},
		{"ENOMEM for the entries", kerneltest.Fault{Receive: unix.ENOMEM}, node.Failed},
		{"EAGAIN, another table at every try", kerneltest.Fault{Receive: unix.EAGAIN}, node.Failed},
		{"ENOENT, the table is gone", kerneltest.Fault{Refuse: unix.ENOENT}, ""}, // an answer
		{"a size of less than one entry", kerneltest.Fault{Size: 8}, node.Failed},
		{"a size of half the table", kerneltest.Fault{Size: 500}, node.Failed},
		{"a size larger than the table", kerneltest.Fault{Size: 1 << 29}, node.Failed},
		{"a size that cannot be", kerneltest.Fault{Size: 1<<32 - 1}, node.Failed},
		{"hung system call", kerneltest.Fault{Hung: true}, node.Failed},
	} {
		f := fault{
			name: "ip_tables/" + c.name, files: func(p *kerneltest.Proc) { p.Write("net/ip_tables_names", "nat\n") },
			broke: breaks(kerneltest.Legacy, c.fault), slow: c.fault.Hung,
			later: outcome{fails: statuses{"natrules": c.status}, lost: `vxlan_nat_.*backend="legacy"`, changed: exposures},
		}
		if c.status == "" {
			f.later.fails = nil
		}
		if c.fault.Hung {
			f.later.lost = `vxlan_nat_`
		}
		all = append(all, f)
	}
	return all
}

// surroundingsFaults: the rules are judged all the same. One that asks for what is not known takes no packet out of the
// NAT rules any more: a device that it made clear is exposed, and never the other way round.
func surroundingsFaults() []fault {
	return onNetlink(kerneltest.Surroundings, func(name string, status node.Status, f *fault) {
		const exposure = `vxlan_device_exposure{device="vxlan5",state="%s",variant="offloaded_checksum"}`
		f.setUp = func(k *kerneltest.Kernel) { k.ByRemote = true }
		f.later = outcome{fails: statuses{"natrules": status}, becomes: map[string]float64{
			fmt.Sprintf(exposure, "clear"): 0, fmt.Sprintf(exposure, "exposed"): 1,
		}}
		if name == "hung system call" {
			f.later.lost = `vxlan_nat_`
		}
	})
}

// nexthopFaults: routes that name nexthop objects tell nothing without them, and no prefix is known. A rule that clears
// the mark of what is sent into the tunnels may then be one that does not.
func nexthopFaults() []fault {
	const exposure = `vxlan_device_exposure{device="vxlan5",state="%s",variant="offloaded_checksum"}`
	const guard = `vxlan_nat_masquerade_mark_state{backend="nft",family="ipv4",state="%s"}`
	worse := outcome{changed: "vxlan_nat_random_fully", becomes: map[string]float64{
		fmt.Sprintf(exposure, "clear"): 0, fmt.Sprintf(exposure, "exposed"): 1, fmt.Sprintf(guard, "absent"): 0,
		fmt.Sprintf(guard, "kept"): 1,
	}}
	byOverlay := func(k *kerneltest.Kernel) { k.ByOverlay = true }
	all := onNetlink(kerneltest.Nexthops, func(name string, status node.Status, f *fault) {
		if strings.HasSuffix(name, "no socket") { // it is one of the socket of routes
			return
		}
		f.setUp, f.later = byOverlay, worse
		f.later.fails = statuses{"natrules": status}
		if name == "hung system call" {
			f.later.lost = `vxlan_nat_`
		}
	})
	return append(all,
		fault{
			name: "nexthop objects/EOPNOTSUPP, none in this kernel", setUp: byOverlay,
			broke: breaks(kerneltest.Nexthops, kerneltest.Fault{Refuse: unix.EOPNOTSUPP}),
			later: worse,
		},
		fault{
			name: "nexthop objects/those of the routes are gone", setUp: byOverlay,
			broke: breaks(kerneltest.Nexthops, kerneltest.Fault{Empty: true}),
			later: worse,
		},
	)
}

// ipSetFaults: a rule by a set that cannot be asked may match or not. A device that it made clear is exposed; the other
// rules are judged.
func ipSetFaults() []fault {
	const exposure = `vxlan_device_exposure{device="vxlan5",state="%s",variant="offloaded_checksum"}`
	worse := outcome{becomes: map[string]float64{fmt.Sprintf(exposure, "clear"): 0, fmt.Sprintf(exposure, "exposed"): 1}}
	bySet := func(k *kerneltest.Kernel) { k.BySet = true }
	all := onNetlink(kerneltest.IPSets, func(name string, status node.Status, f *fault) {
		switch name {
		case "ENOBUFS in mid-answer", "changes all the time", "answer without end": // the answers are single messages
			return
		}
		f.setUp, f.later = bySet, worse
		f.later.fails = statuses{"natrules": status}
		if name == "hung system call" {
			f.later.lost = `vxlan_nat_`
		}
	})
	for _, c := range []struct {
		source kerneltest.Source
		name   string
		fault  kerneltest.Fault
		status node.Status
	}{
		{kerneltest.IPSets, "the set is gone", kerneltest.Fault{Refuse: unix.ENOENT}, ""}, // an answer
		{kerneltest.IPSets, "a set that cannot be asked this", kerneltest.Fault{Refuse: unix.Errno(4100)}, ""},
		{kerneltest.IPSets, "no answer at all", kerneltest.Fault{Empty: true}, node.Failed},
		{kerneltest.IPSets, "a size of less than its header", kerneltest.Fault{Size: 3}, node.Failed},
		{kerneltest.IPSets, "a size larger than the message", kerneltest.Fault{Size: 1<<16 - 1}, node.Failed},
		{kerneltest.IPSets, "a size that swallows the type", kerneltest.Fault{Size: 68}, node.Failed},
		{kerneltest.IPSetNames, "EPERM, refused", kerneltest.Fault{Refuse: unix.EPERM}, node.NotPermitted},
		{kerneltest.IPSetNames, "EINTR, refused", kerneltest.Fault{Refuse: unix.EINTR}, node.Failed},
		{kerneltest.IPSetNames, "no set of that number", kerneltest.Fault{Empty: true}, ""}, // an answer
		{kerneltest.IPSetNames, "a name without end", kerneltest.Fault{Endless: true}, node.Failed},
		{kerneltest.IPSetNames, "hung system call", kerneltest.Fault{Hung: true}, node.Failed},
		{kerneltest.Legacy, "EMFILE, no socket for names of sets", kerneltest.Fault{Open: unix.EMFILE}, node.Failed},
	} {
		f := fault{
			name: string(c.source) + "/" + c.name, setUp: bySet, broke: breaks(c.source, c.fault), slow: c.fault.Hung,
			later: worse,
		}
		if c.status != "" {
			f.later.fails = statuses{"natrules": c.status}
		}
		if c.fault.Hung {
			f.later.lost = `vxlan_nat_`
		}
		all = append(all, f)
	}
	return all
}
