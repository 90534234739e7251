package collectors

import (
	"regexp"
	"strconv"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/node"

	"github.com/prometheus/client_golang/prometheus"
)

// deviceDescs are the descriptions of the device collector's metrics.
type deviceDescs struct {
	info, up, checksum, zeroChecksum *prometheus.Desc
	active, requested, fixed         *prometheus.Desc
}

func newDeviceDescs() deviceDescs {
	return deviceDescs{
		info: desc("device", "info", "A VXLAN device, always 1: IFLA_VXLAN_ID, _PORT, _LOCAL or _LOCAL6, the name of the NIC below, "+
			"and IFLA_VXLAN_COLLECT_METADATA. A label is empty where the device has no such setting or the kernel does not say.",
			"device", "vni", "port", "local", "underlay", "external"),
		up: desc("device", "up", "Whether the VXLAN device is switched on (IFF_UP).", "device"),
		checksum: desc("device", "udp_checksum_enabled", "Whether the device fills in the checksum of the outer UDP header over IPv4 "+
			"(IFLA_VXLAN_UDP_CSUM). On an external device it does not tell what is on the wire. Absent where the kernel does not say.", "device"),
		zeroChecksum: desc("device", "udp6_zero_checksum_enabled", "Whether the device sends (tx) or accepts (rx) outer IPv6 packets "+
			"without a UDP checksum (IFLA_VXLAN_UDP_ZERO_CSUM6_TX, _RX). Only for devices with an IPv6 underlay.", "device", "direction"),
		active: desc("device", "feature_active", "Whether the offload feature of the VXLAN device is in effect (netdev features).",
			"device", "feature"),
		requested: desc("device", "feature_requested", "Whether the offload feature of the VXLAN device is asked for (netdev wanted_features).",
			"device", "feature"),
		fixed: desc("device", "feature_fixed", "Whether the offload feature of the VXLAN device cannot be changed (not in netdev hw_features, "+
			"or never changed; [fixed] in ethtool -k).", "device", "feature"),
	}
}

// isDeviceFeature picks the features of a VXLAN device that bear on the failure and its remedy, by their names in
// net/ethtool/common.c: the checksum offload that leaves outer checksums unfinished, and the batching that is lost without it.
func isDeviceFeature(f ethtool.Feature) bool {
	switch f.Name {
	case "tx-checksum-ip-generic", "rx-checksum", "tx-generic-segmentation":
		return true
	}
	return false
}

// Describe implements Collector.
func (c *Device) Describe(ch chan<- *prometheus.Desc) {
	d := c.descs
	for _, d := range []*prometheus.Desc{d.info, d.up, d.checksum, d.zeroChecksum, d.active, d.requested, d.fixed} {
		ch <- d
	}
}

// Publish implements Collector.
func (c *Device) Publish(n *node.Node, ch chan<- prometheus.Metric) {
	for _, d := range n.Devices {
		c.publish(ch, DeviceLabel(d.Name), d)
	}
}

func (c *Device) publish(ch chan<- prometheus.Metric, name string, d node.Device) {
	gauge(ch, c.descs.info, 1, name, vniLabel(d), portLabel(d), addrLabel(d), DeviceLabel(d.Underlay), boolLabel(d.External))
	gauge(ch, c.descs.up, BoolValue(d.Up), name)
	if d.UDPChecksum != nil {
		gauge(ch, c.descs.checksum, BoolValue(*d.UDPChecksum), name)
	}
	if _, ipv6 := d.Link.Underlay(); ipv6 {
		if v := d.UDP6ZeroChecksumTx; v != nil {
			gauge(ch, c.descs.zeroChecksum, BoolValue(*v), name, "tx")
		}
		if v := d.UDP6ZeroChecksumRx; v != nil {
			gauge(ch, c.descs.zeroChecksum, BoolValue(*v), name, "rx")
		}
	}
	for _, f := range d.Features {
		if isDeviceFeature(f) || matches(c.cfg.FeatureInclude, f.Name) {
			gauge(ch, c.descs.active, BoolValue(f.Active), name, f.Name)
			gauge(ch, c.descs.requested, BoolValue(f.Requested), name, f.Name)
			gauge(ch, c.descs.fixed, BoolValue(f.Fixed), name, f.Name)
		}
	}
}

func matches(re *regexp.Regexp, s string) bool { return re != nil && re.MatchString(s) }

// vniLabel is empty on an external device, which takes the VNI from each packet.
func vniLabel(d node.Device) string {
	if d.IsExternal() {
		return ""
	}
	return strconv.FormatUint(uint64(d.VNI), 10)
}

func portLabel(d node.Device) string {
	if d.Port == 0 {
		return ""
	}
	return strconv.FormatUint(uint64(d.Port), 10)
}

func addrLabel(d node.Device) string {
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
