package collectors

import (
	"context"
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"sort"
	"strconv"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

// DefaultPort is the kernel's own VXLAN port (drivers/net/vxlan/vxlan_core.c, vxlan_port), which flannel keeps;
// IANAPort is the one of RFC 7348, which Docker Swarm and Calico use.
const (
	DefaultPort = 8472
	IANAPort    = 4789
)

// DeviceConfig says what the collectors of devices and of their underlays read and publish. The zero value reads the
// process's network namespace.
type DeviceConfig struct {
	// VXLAN ports to look for besides the devices' own; nil: the usual ones, see Device.ports
	Ports          []uint16
	Proc           string         // where procfs is mounted; empty: sockets without a device are not looked for
	FeatureInclude *regexp.Regexp // features to publish besides the built-in ones; matched anywhere in the name; nil: none

	OpenRoute nl.Opener                           // nil: nl.Route
	OpenIoctl func() (ethtool.IoctlSocket, error) // nil: ethtool.OpenIoctl
	OpenLinks func() (ethtool.LinkClient, error)  // of underlays, on a thread of its own; nil: ethtool.OpenLinks
}

// Device finds the VXLAN devices of the network namespace, with their offload features, and the ports they use.
type Device struct {
	Metrics
	cfg     DeviceConfig
	ethtool *ethtool.Client
}

// NewDevice returns the collector called "device". It needs no capability.
func NewDevice(cfg DeviceConfig) *Device {
	return &Device{cfg: cfg, Metrics: deviceMetrics(cfg.FeatureInclude), ethtool: ethtool.NewClient(cfg.OpenIoctl)}
}

// Observe implements Collector: it fills Devices, sorted by name, and Ports. A device whose features could not be read
// is there without them, and the error says so. A device that vanishes while it is read is left out.
func (c *Device) Observe(ctx context.Context, _ *node.Node) (Fill, error) {
	devices, err := c.links(ctx)
	if err != nil && devices == nil {
		return nil, err
	}
	devices, featuresErr := c.features(ctx, devices)
	ports := c.ports(devices)
	return func(n *node.Node) { n.Devices, n.Ports = devices, ports }, errors.Join(err, featuresErr)
}

// ConfiguredPorts are the ports that are known without reading anything, on both families.
func (c *Device) ConfiguredPorts() []node.Port { return vxlanPorts(nil, orUsual(c.cfg.Ports)) }

// links reads the links and names their underlays. devices is nil when there was no answer at all.
func (c *Device) links(ctx context.Context) (devices []node.Device, err error) {
	conn, err := rtnl.Dial(ctx, c.cfg.OpenRoute)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	links, err := conn.Links()
	if links == nil && err != nil {
		return nil, err
	}
	devices = make([]node.Device, len(links))
	for i, l := range links {
		devices[i].Link = l
	}
	sort.SliceStable(devices, func(i, j int) bool { return devices[i].Name < devices[j].Name })
	// Two links swap a name while the dump runs: one of them is enough, a name identifies a device everywhere else.
	devices = slices.CompactFunc(devices, func(a, b node.Device) bool { return a.Name == b.Name })
	c.nameNamespaces(conn, devices)
	return devices, errors.Join(err, c.nameUnderlays(ctx, conn, devices))
}

// features reads the features of every device and drops those that are gone.
func (c *Device) features(ctx context.Context, devices []node.Device) (there []node.Device, err error) {
	defer func() { err = errors.Join(err, c.ethtool.Close()) }()
	var errs failures
	there = devices[:0]
	for _, d := range devices {
		d.Features, err = c.ethtool.Features(ctx, ethtool.Device{Index: d.Index, Name: d.Name})
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			d.FeaturesError = err.Error()
			errs.add(err)
		}
		there = append(there, d)
	}
	return there, errs.join()
}

// ports are those to look for: the devices' own and the configured ones. Where none is configured, they are the two
// usual ones: the second where no device is in sight that sends from here, or where the kernel has a VXLAN socket on it
// and no device here uses it. A device that was moved to another network namespace, as Docker Swarm moves its own,
// leaves nothing else to see.
func (c *Device) ports(devices []node.Device) []node.Port {
	here := func(d node.Device) bool { return d.LinkNetns == nil }
	if c.cfg.Ports != nil || !slices.ContainsFunc(devices, here) {
		return vxlanPorts(devices, orUsual(c.cfg.Ports))
	}
	ports := vxlanPorts(devices, []uint16{DefaultPort})
	if c.cfg.Proc == "" || slices.ContainsFunc(ports, func(p node.Port) bool { return p.Port == IANAPort }) {
		return ports
	}
	sockets, _ := udpSockets(c.cfg.Proc, []uint16{IANAPort}) // what cannot be read is for the socket collector to tell
	if len(sockets) > 0 {
		p := node.Port{Port: IANAPort}
		for _, s := range sockets {
			p.IPv4, p.IPv6 = p.IPv4 || s.Family == node.IPv4, p.IPv6 || s.Family == node.IPv6
		}
		ports = append(ports, p)
		sortPorts(ports)
	}
	return ports
}

// orUsual are the ports where no device is known.
func orUsual(configured []uint16) []uint16 {
	if configured == nil {
		return []uint16{DefaultPort, IANAPort}
	}
	return configured
}

func sortPorts(p []node.Port) { sort.Slice(p, func(i, j int) bool { return p[i].Port < p[j].Port }) }

// vxlanPorts lists every port that a device uses or that is configured, sorted. The families of a port are those of the
// devices on it; of one that no device uses, those of all devices; of all, where there are no devices.
func vxlanPorts(devices []node.Device, configured []uint16) []node.Port {
	var all node.Port
	ports := make(map[uint16]node.Port)
	for _, d := range devices {
		ipv4, ipv6 := d.Link.Underlay()
		all.IPv4, all.IPv6 = all.IPv4 || ipv4, all.IPv6 || ipv6
		if d.Port == 0 {
			continue
		}
		p := ports[d.Port]
		ports[d.Port] = node.Port{Port: d.Port, IPv4: p.IPv4 || ipv4, IPv6: p.IPv6 || ipv6, Device: true}
	}
	if len(devices) == 0 {
		all.IPv4, all.IPv6 = true, true
	}
	for _, port := range configured {
		if _, ok := ports[port]; !ok && port != 0 {
			ports[port] = node.Port{Port: port, IPv4: all.IPv4, IPv6: all.IPv6}
		}
	}
	list := make([]node.Port, 0, len(ports))
	for _, p := range ports {
		list = append(list, p)
	}
	sortPorts(list)
	return list
}

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
	return NewMetrics("device", Metric{
		Name: "device_info", Labels: []string{"device", "family", "vni", "port", "local", "underlay", "external"},
		Help: "A VXLAN device, always 1: IFLA_VXLAN_ID, _PORT, _LOCAL or _LOCAL6, the name of the underlay NIC, and " +
			"IFLA_VXLAN_COLLECT_METADATA. A label is empty where the device has no such setting or the kernel does not say.",
		Notes: "`family` is that of the outer packets, empty on an external device, which sends both. `underlay` comes " +
			"from the local address where IFLA_VXLAN_LINK is not set.",
		Samples: each(func(d *node.Device, name string, emit Emit) {
			emit(1, name, underlayFamily(d),
				where(!d.IsExternal(), strconv.FormatUint(uint64(d.VNI), 10)), // else each packet has its own
				where(d.Port != 0, strconv.FormatUint(uint64(d.Port), 10)),
				where(d.Local.IsValid(), d.Local.String()),
				DeviceLabel(d.Underlay),
				where(d.External != nil, strconv.FormatBool(d.IsExternal())))
		}),
	}, Metric{
		Name: "device_up", Labels: []string{"device"},
		Help:    "Whether the VXLAN device is up (IFF_UP).",
		Samples: each(func(d *node.Device, name string, emit Emit) { emit.Bool(d.Up, name) }),
	}, Metric{
		Name: "device_udp_checksum_enabled", Labels: []string{"device"},
		Help: "Whether the device fills in the checksum of the outer UDP header over IPv4 (IFLA_VXLAN_UDP_CSUM). On an " +
			"external device it does not tell what is on the wire. Absent where the kernel does not say.",
		Samples: each(func(d *node.Device, name string, emit Emit) { emit.Setting(d.UDPChecksum, name) }),
	}, Metric{
		Name: "device_udp6_zero_checksum_enabled", Labels: []string{"device", "direction=tx,rx"},
		Help: "Whether the device sends (tx) or accepts (rx) outer IPv6 packets without a UDP checksum " +
			"(IFLA_VXLAN_UDP_ZERO_CSUM6_TX, _RX). Only for devices with an IPv6 underlay.",
		Samples: each(func(d *node.Device, name string, emit Emit) {
			if _, ipv6 := d.Link.Underlay(); ipv6 {
				emit.Setting(d.UDP6ZeroChecksumTx, name, "tx")
				emit.Setting(d.UDP6ZeroChecksumRx, name, "rx")
			}
		}),
	}, Metric{
		Name: "device_feature_active", Labels: []string{"device", "feature"},
		Help: "Whether the offload feature of the VXLAN device is in effect (netdev features).",
		Notes: "ETHTOOL_GFEATURES: `tx-checksum-ip-generic`, `rx-checksum`, `tx-generic-segmentation`; " +
			"`--device.feature-include` adds more.",
		Samples: feature(func(f ethtool.Feature) bool { return f.Active }),
	}, Metric{
		Name: "device_feature_requested", Labels: []string{"device", "feature"},
		Help:    "Whether the offload feature of the VXLAN device is requested (netdev wanted_features).",
		Notes:   "Differs from active in \"off [requested on]\".",
		Samples: feature(func(f ethtool.Feature) bool { return f.Requested }),
	}, Metric{
		Name: "device_feature_fixed", Labels: []string{"device", "feature"},
		Help: "Whether the offload feature of the VXLAN device cannot be changed (not in netdev hw_features, or never " +
			"changed; [fixed] in ethtool -k).",
		Samples: feature(func(f ethtool.Feature) bool { return f.Fixed }),
	})
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

// where is a label that is empty unless it is known.
func where(known bool, label string) string {
	if !known {
		return ""
	}
	return label
}

// Port stands in for Device when that is switched off: the ports that flags name, or the usual ones, are then all that
// is known, on both families.
type Port struct {
	Metrics // none: there are no metrics of ports alone
	ports   []node.Port
}

// NewPort makes a collector that finds nothing but the given ports.
func NewPort(ports []uint16) *Port {
	return &Port{Metrics: NewMetrics("port"), ports: vxlanPorts(nil, orUsual(ports))}
}

// Observe fills node.Ports.
func (c *Port) Observe(context.Context, *node.Node) (Fill, error) {
	return func(n *node.Node) { n.Ports = c.ports }, nil
}
