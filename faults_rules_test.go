package main

import (
	"fmt"

	"vxlan_exporter/kernel/kerneltest"
	"vxlan_exporter/node"
)

// nftablesFaults: no judgement on the rules of nf_tables, and none on the devices that rests on it.
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

// surroundingsFaults: the rules are judged all the same. One that asks for what is not known takes no packet out of the NAT rules any
// more: a device that it made clear is exposed, and never the other way round.
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
