package collectors

import (
	"regexp"
	"strconv"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/node"
)

// deviceMetrics publishes the features that bear on the failure, and those that include matches.
func deviceMetrics(include *regexp.Regexp) Metrics {
	feature := func(value func(ethtool.Feature) bool) func(*node.Node, Emit) {
		return func(n *node.Node, emit Emit) {
			for i := range n.Devices {
				name := DeviceLabel(n.Devices[i].Name)
				for _, f := range n.Devices[i].Features {
					if isDeviceFeature(f) || matches(include, f.Name) {
						emit.Bool(value(f), name, f.Name)
					}
				}
			}
		}
	}
	each := func(samples func(d *node.Device, name string, emit Emit)) func(*node.Node, Emit) {
		return func(n *node.Node, emit Emit) {
			for i := range n.Devices {
				samples(&n.Devices[i], DeviceLabel(n.Devices[i].Name), emit)
			}
		}
	}
	return NewMetrics(
		Metric{
			Name: "device_info", Labels: []string{"device", "family", "vni", "port", "local", "underlay", "external"},
			Help: "A VXLAN device, always 1: IFLA_VXLAN_ID, _PORT, _LOCAL or _LOCAL6, the name of the underlay NIC, and " +
				"IFLA_VXLAN_COLLECT_METADATA. A label is empty where the device has no such setting or the kernel does not say.",
			Notes: "`family` is that of the outer packets, empty on an external device, which sends both. `underlay` comes " +
				"from the local address where IFLA_VXLAN_LINK is not set.",
			Samples: each(func(d *node.Device, name string, emit Emit) {
				emit(
					1,
					name,
					underlayFamily(d),
					vniLabel(d),
					portLabel(d),
					addrLabel(d),
					DeviceLabel(d.Underlay),
					boolLabel(d.External),
				)
			}),
		},
		Metric{
			Name: "device_up", Labels: []string{"device"},
			Help:    "Whether the VXLAN device is up (IFF_UP).",
			Samples: each(func(d *node.Device, name string, emit Emit) { emit.Bool(d.Up, name) }),
		},
		Metric{
			Name: "device_udp_checksum_enabled", Labels: []string{"device"},
			Help: "Whether the device fills in the checksum of the outer UDP header over IPv4 (IFLA_VXLAN_UDP_CSUM). On an " +
				"external device it does not tell what is on the wire. Absent where the kernel does not say.",
			Samples: each(func(d *node.Device, name string, emit Emit) { emit.Setting(d.UDPChecksum, name) }),
		},
		Metric{
			Name: "device_udp6_zero_checksum_enabled", Labels: []string{"device", "direction=tx,rx"},
			Help: "Whether the device sends (tx) or accepts (rx) outer IPv6 packets without a UDP checksum " +
				"(IFLA_VXLAN_UDP_ZERO_CSUM6_TX, _RX). Only for devices with an IPv6 underlay.",
			Samples: each(func(d *node.Device, name string, emit Emit) {
				if _, ipv6 := d.Link.Underlay(); ipv6 {
					emit.Setting(d.UDP6ZeroChecksumTx, name, "tx")
					emit.Setting(d.UDP6ZeroChecksumRx, name, "rx")
				}
			}),
		},
		Metric{
			Name: "device_feature_active", Labels: []string{"device", "feature"},
			Help: "Whether the offload feature of the VXLAN device is in effect (netdev features).",
			Notes: "ETHTOOL_GFEATURES: `tx-checksum-ip-generic`, `rx-checksum`, `tx-generic-segmentation`; " +
				"`--device.feature-include` adds more.",
			Samples: feature(func(f ethtool.Feature) bool { return f.Active }),
		},
		Metric{
			Name: "device_feature_requested", Labels: []string{"device", "feature"},
			Help:    "Whether the offload feature of the VXLAN device is requested (netdev wanted_features).",
			Notes:   "Differs from active in \"off [requested on]\".",
			Samples: feature(func(f ethtool.Feature) bool { return f.Requested }),
		},
		Metric{
			Name: "device_feature_fixed", Labels: []string{"device", "feature"},
			Help: "Whether the offload feature of the VXLAN device cannot be changed (not in netdev hw_features, or never " +
				"changed; [fixed] in ethtool -k).",
			Samples: feature(func(f ethtool.Feature) bool { return f.Fixed }),
		},
	)
}

// isDeviceFeature picks the features of a VXLAN device that bear on the failure and its remedy, by their names in
// net/ethtool/common.c: the checksum offload that leaves outer checksums unfinished, and the batching that is lost
// without it.
func isDeviceFeature(f ethtool.Feature) bool {
	switch f.Name {
	case "tx-checksum-ip-generic", "rx-checksum", "tx-generic-segmentation":
		return true
	}
	return false
}

func matches(re *regexp.Regexp, s string) bool { return re != nil && re.MatchString(s) }

// underlayFamily is empty on an external device, which takes the addresses from each packet.
func underlayFamily(d *node.Device) string {
	switch ipv4, ipv6 := d.Link.Underlay(); {
	case ipv4 && ipv6:
		return ""
	case ipv6:
		return node.IPv6
	}
	return node.IPv4
}

// vniLabel is empty on an external device, which takes the VNI from each packet.
func vniLabel(d *node.Device) string {
	if d.IsExternal() {
		return ""
	}
	return strconv.FormatUint(uint64(d.VNI), 10)
}

func portLabel(d *node.Device) string {
	if d.Port == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(d.Port), 10)
}

func addrLabel(d *node.Device) string {
	if !d.Local.IsValid() {
		return ""
	}
	return d.Local.String()
}

func boolLabel(b *bool) string {
	if b == nil {
		return ""
	}
	return strconv.FormatBool(*b)
}
