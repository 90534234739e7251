package collectors

import (
	"maps"
	"regexp"
	"slices"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/node"
)

// underlayMetrics publishes the features that bear on the failure, and those that include matches.
func underlayMetrics(include *regexp.Regexp) Metrics {
	each := func(samples func(u *node.Underlay, name string, emit Emit)) func(*node.Node, Emit) {
		return func(n *node.Node, emit Emit) {
			for i := range n.Underlays {
				samples(&n.Underlays[i], DeviceLabel(n.Underlays[i].Name), emit)
			}
		}
	}
	return NewMetrics(
		Metric{
			Name: "underlay_info", Labels: []string{"device", "driver", "firmware_version"},
			Help: "An underlay NIC of VXLAN devices, always 1: driver and fw_version of ETHTOOL_GDRVINFO. A label is empty " +
				"where the driver does not say.",
			Samples: each(func(u *node.Underlay, name string, emit Emit) {
				emit(1, name, DeviceLabel(u.Driver.Name), DeviceLabel(u.Driver.FirmwareVersion))
			}),
		},
		Metric{
			Name: "underlay_up", Labels: []string{"device"},
			Help:    "Whether the underlay NIC has a link (ETHTOOL_A_LINKSTATE_LINK, or IFF_LOWER_UP where there is none).",
			Samples: each(func(u *node.Underlay, name string, emit Emit) { emit.Setting(u.LinkUp, name) }),
		},
		Metric{
			Name: "underlay_feature_active", Labels: []string{"device", "feature"},
			Help: "Whether the offload feature of the underlay NIC is in effect (netdev features): checksums and UDP tunnels.",
			Samples: each(func(u *node.Underlay, name string, emit Emit) {
				for _, f := range u.Features {
					if isUnderlayFeature(f, u.Features) || matches(include, f.Name) {
						emit.Bool(f.Active, name, f.Name)
					}
				}
			}),
		},
		Metric{
			Name: "underlay_private_flag", Labels: []string{"device", "flag"},
			Help: "Whether the driver's private flag of the underlay NIC is set (ETHTOOL_A_PRIVFLAGS_FLAGS); only flags " +
				"that name a checksum.",
			Samples: each(func(u *node.Underlay, name string, emit Emit) {
				for _, flag := range slices.Sorted(maps.Keys(u.PrivateFlags)) {
					emit.Bool(u.PrivateFlags[flag], name, DeviceLabel(flag))
				}
			}),
		},
	)
}

// isUnderlayFeature picks the features of a NIC that outer packets pass, by their names in net/ethtool/common.c. A NIC
// offloads checksums either generically or for IPv4 and IPv6 apart: the latter are published only where the NIC has
// them, and the former also where it has none of the three, to say so.
func isUnderlayFeature(f ethtool.Feature, all ethtool.Features) bool {
	switch f.Name {
	case "tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation", "rx-udp_tunnel-port-offload", "rx-checksum":
		return true
	case "tx-checksum-ipv4", "tx-checksum-ipv6":
		return f.Available || f.Active
	case "tx-checksum-ip-generic":
		return f.Available || f.Active || (!has(all, "tx-checksum-ipv4") && !has(all, "tx-checksum-ipv6"))
	}
	return false
}

func has(all ethtool.Features, name string) bool {
	f, ok := all.Get(name)
	return ok && (f.Available || f.Active)
}
