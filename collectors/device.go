package collectors

import (
	"context"
	"errors"
	"io/fs"
	"regexp"
	"slices"
	"sort"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

// DeviceConfig says what the device collector reads and publishes. The zero value reads the process's network
// namespace.
type DeviceConfig struct {
	// VXLAN ports to look for besides the devices' own; nil: the usual ones, see Device.ports
	Ports          []uint16
	Proc           string         // where procfs is mounted; empty: sockets without a device are not looked for
	FeatureInclude *regexp.Regexp // features to publish besides the built-in ones; matched anywhere in the name; nil: none

	OpenRoute nl.Opener                           // nil: nl.Route
	OpenIoctl func() (ethtool.IoctlSocket, error) // nil: ethtool.OpenIoctl
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

// Name implements Collector.
func (*Device) Name() string { return "device" }

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
