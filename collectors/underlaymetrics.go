package collectors

import (
	"maps"
	"slices"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/node"

	"github.com/prometheus/client_golang/prometheus"
)

// underlayDescs are the descriptions of the underlay collector's metrics.
type underlayDescs struct{ info, up, active, flag *prometheus.Desc }

func newUnderlayDescs() underlayDescs {
	return underlayDescs{
		info: desc("underlay", "info", "A NIC below VXLAN devices, always 1: driver and fw_version of ETHTOOL_GDRVINFO. "+
			"A label is empty where the driver does not say.", "device", "driver", "firmware_version"),
		up: desc("underlay", "up", "Whether the NIC below has a link (ETHTOOL_A_LINKSTATE_LINK, or IFF_LOWER_UP where there is none).", "device"),
		active: desc("underlay", "feature_active", "Whether the offload feature of the NIC below is in effect (netdev features): "+
			"checksums and UDP tunnels.", "device", "feature"),
		flag: desc("underlay", "private_flag", "Whether the driver's private flag of the NIC below is set (ETHTOOL_A_PRIVFLAGS_FLAGS); "+
			"only flags that name a checksum.", "device", "flag"),
	}
}

// isUnderlayFeature picks the features of a NIC that outer packets pass, by their names in net/ethtool/common.c. A NIC offloads
// checksums either generically or for IPv4 and IPv6 apart: the latter are published only where the NIC has them, and the former
// also where it has none of the three, to say so.
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

// Describe implements Collector.
func (c *Underlay) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.descs.info, c.descs.up, c.descs.active, c.descs.flag} {
		ch <- d
	}
}

// Publish implements Collector.
func (c *Underlay) Publish(n *node.Node, ch chan<- prometheus.Metric) {
	for _, u := range n.Underlays {
		name := DeviceLabel(u.Name)
		gauge(ch, c.descs.info, 1, name, DeviceLabel(u.Driver.Name), DeviceLabel(u.Driver.FirmwareVersion))
		if u.LinkUp != nil {
			gauge(ch, c.descs.up, BoolValue(*u.LinkUp), name)
		}
		for _, f := range u.Features {
			if isUnderlayFeature(f, u.Features) || matches(c.cfg.FeatureInclude, f.Name) {
				gauge(ch, c.descs.active, BoolValue(f.Active), name, f.Name)
			}
		}
		for _, flag := range slices.Sorted(maps.Keys(u.PrivateFlags)) {
			gauge(ch, c.descs.flag, BoolValue(u.PrivateFlags[flag]), name, DeviceLabel(flag))
		}
	}
}
