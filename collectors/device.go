package collectors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"regexp"
	"slices"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

// DeviceConfig says what the device collector reads and publishes. The zero value reads the process's network
// namespace.
type DeviceConfig struct {
	Ports          []uint16       // VXLAN ports to look for besides the devices' own; nil: the usual ones, see Device.ports
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
	slices.SortStableFunc(devices, func(a, b node.Device) int { return cmp.Compare(a.Name, b.Name) })
	// Two links swap a name while the dump runs: one of them is enough, a name identifies a device everywhere else.
	devices = slices.CompactFunc(devices, func(a, b node.Device) bool { return a.Name == b.Name })
	c.nameNamespaces(conn, devices)
	return devices, errors.Join(err, c.nameUnderlays(ctx, conn, devices))
}

// way is what devices have in common whose packets are taken to leave by one way: one of them is asked for.
type way struct {
	local netip.Addr
	link  int
}

// nameUnderlays fills Underlay: the device that the route to a peer leads to. Where that is not known it is the one that IFLA_VXLAN_LINK
// names or, without it, the one that bears the local address, unless that is lo, by which nothing leaves. The underlay of a device
// that was moved here is in another namespace.
func (c *Device) nameUnderlays(ctx context.Context, conn *rtnl.Conn, devices []node.Device) error {
	var errs []error
	outs := make([]int, len(devices))
	ways := make(map[way]int)
	var locals []netip.Addr
	for i, d := range devices {
		if d.LinkNetns != nil {
			continue
		}
		w := way{d.Local, d.UnderlayIndex}
		if out, ok := ways[w]; ok {
			outs[i] = out
		} else {
			var err error
			if outs[i], err = c.wayOut(ctx, conn, d); err != nil {
				errs = append(errs, fmt.Errorf("underlay of %q: %w", d.Name, err))
			}
			ways[w] = outs[i]
		}
		if outs[i] = cmp.Or(outs[i], d.UnderlayIndex); outs[i] == 0 && d.Local.IsValid() {
			locals = append(locals, d.Local)
		}
	}
	var owners map[netip.Addr]int
	if len(locals) > 0 {
		var err error
		owners, err = conn.Owners(locals)
		errs = append(errs, err)
	}
	names := make(map[int]string)
	for i := range devices {
		d := &devices[i]
		index := outs[i]
		if owner := owners[d.Local]; index == 0 && owner != loopbackIndex {
			index = owner
		}
		if index <= 0 || d.LinkNetns != nil {
			continue
		}
		name, ok := names[index]
		if !ok {
			nic, err := conn.NIC(index)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("underlay of %q: %w", d.Name, err))
			}
			name = nic.Name
			names[index] = name
		}
		d.Underlay = name
	}
	return errors.Join(errs...)
}

const loopbackIndex = 1 // include/linux/netdevice.h, LOOPBACK_IFINDEX

// wayOut is the interface by which packets to a peer of the device leave; 0: not known.
func (c *Device) wayOut(ctx context.Context, conn *rtnl.Conn, d node.Device) (int, error) {
	peer, known := rtnl.Remote{Addr: d.Remote, Out: d.UnderlayIndex}, d.Remote.IsValid() && !d.Remote.IsMulticast()
	if !known && !d.IsExternal() {
		var err error
		if peer, known, err = rtnl.FirstRemote(ctx, c.cfg.OpenRoute, d.Index); err != nil {
			return 0, err
		}
	}
	if !known {
		return 0, nil
	}
	r, err := conn.RouteOf(rtnl.RouteQuery{Destination: peer.Addr, Source: d.Local, Out: peer.Out, UDPPort: d.Port})
	if errors.Is(err, rtnl.ErrNoRoute) || r.Local {
		return 0, nil
	}
	return r.Index, err
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
