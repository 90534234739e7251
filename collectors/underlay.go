package collectors

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

// Underlay reads the NICs below the VXLAN devices.
type Underlay struct {
	Metrics
	cfg     DeviceConfig
	ethtool *ethtool.Client
	links   *ethtool.LinkReader
}

// NewUnderlay returns the collector called "underlay". It needs no capability.
func NewUnderlay(cfg DeviceConfig) *Underlay {
	return &Underlay{
		cfg: cfg, Metrics: underlayMetrics(cfg.FeatureInclude),
		ethtool: ethtool.NewClient(cfg.OpenIoctl), links: ethtool.NewLinkReader(cfg.OpenLinks),
	}
}

// Observe implements Collector: it fills Underlays, sorted by name, with the NICs below the known devices. What could
// not be read of a NIC is missing there, and the error says so. A NIC that vanishes while it is read is left out.
func (c *Underlay) Observe(ctx context.Context, known *node.Node) (fill Fill, err error) {
	if err := devicesUnknown(known); err != nil {
		return nil, fmt.Errorf("underlay: %w", err)
	}
	names := underlayNames(known)
	if len(names) == 0 {
		return func(n *node.Node) { n.Underlays = nil }, nil
	}
	conn, err := rtnl.Dial(ctx, c.cfg.OpenRoute)
	if err != nil {
		return nil, err
	}
	var errs failures
	defer func() { err = errors.Join(err, conn.Close(), c.ethtool.Close()) }()
	var underlays []node.Underlay
	for _, name := range names {
		u, err := c.read(ctx, conn, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		errs.add(err)
		if u.Index > 0 {
			underlays = append(underlays, u)
		}
	}
	errs.add(c.readLinks(ctx, underlays))
	return func(n *node.Node) { n.Underlays = underlays }, errs.join()
}

func underlayNames(known *node.Node) []string {
	var names []string
	for _, d := range known.Devices {
		if d.Underlay != "" {
			names = append(names, d.Underlay)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// read reads one NIC.
func (c *Underlay) read(ctx context.Context, conn *rtnl.Conn, name string) (node.Underlay, error) {
	nic, err := conn.NICByName(name)
	if err != nil {
		return node.Underlay{}, err
	}
	u := node.Underlay{Index: nic.Index, Name: nic.Name, MTU: nic.MTU, LinkUp: &nic.Running}
	d := ethtool.Device{Index: nic.Index, Name: nic.Name}
	if u.Features, err = c.ethtool.Features(ctx, d); err != nil {
		u.FeaturesError = err.Error()
	}
	var driverErr error
	if u.Driver, driverErr = c.ethtool.Driver(ctx, d); errors.Is(driverErr, errors.ErrUnsupported) {
		driverErr = nil // not every device has a driver that says its name
	}
	if err := errors.Join(err, driverErr); err != nil {
		return u, fmt.Errorf("underlay: %w", err)
	}
	return u, nil
}

// readLinks adds what the generic netlink family "ethtool" says. A link that it does not say is up is the carrier of
// rtnetlink: kernels before 5.6 have no such family, and the library does not tell a driver that has no answer from one
// that has no link.
func (c *Underlay) readLinks(ctx context.Context, underlays []node.Underlay) error {
	var devices []ethtool.Device
	for _, u := range underlays {
		devices = append(devices, ethtool.Device{Index: u.Index, Name: u.Name})
	}
	links, err := c.links.Read(ctx, devices)
	for i := range underlays {
		u := &underlays[i]
		if link, ok := links[u.Index]; ok {
			*u.LinkUp = *u.LinkUp || link.Up
			u.PrivateFlags = link.ChecksumFlags
		}
	}
	if err != nil {
		return fmt.Errorf("underlay: %w", err)
	}
	return nil
}

// underlayMetrics publishes the features that bear on the failure, and those that include matches.
func underlayMetrics(include *regexp.Regexp) Metrics {
	each := func(samples func(u *node.Underlay, name string, emit Emit)) func(*node.Node, Emit) {
		return func(n *node.Node, emit Emit) {
			for i := range n.Underlays {
				samples(&n.Underlays[i], DeviceLabel(n.Underlays[i].Name), emit)
			}
		}
	}
	return NewMetrics("underlay", Metric{
		Name: "underlay_info", Labels: []string{"device", "driver", "firmware_version"},
		Help: "An underlay NIC of VXLAN devices, always 1: driver and fw_version of ETHTOOL_GDRVINFO. A label is empty " +
			"where the driver does not say.",
		Samples: each(func(u *node.Underlay, name string, emit Emit) {
			emit(1, name, DeviceLabel(u.Driver.Name), DeviceLabel(u.Driver.FirmwareVersion))
		}),
	}, Metric{
		Name: "underlay_up", Labels: []string{"device"},
		Help:    "Whether the underlay NIC has a link (ETHTOOL_A_LINKSTATE_LINK, or IFF_LOWER_UP where there is none).",
		Samples: each(func(u *node.Underlay, name string, emit Emit) { emit.Setting(u.LinkUp, name) }),
	}, Metric{
		Name: "underlay_feature_active", Labels: []string{"device", "feature"},
		Help: "Whether the offload feature of the underlay NIC is in effect (netdev features): checksums and UDP tunnels.",
		Samples: each(func(u *node.Underlay, name string, emit Emit) {
			for _, f := range u.Features {
				if isUnderlayFeature(f, u.Features) || matches(include, f.Name) {
					emit.Bool(f.Active, name, f.Name)
				}
			}
		}),
	}, Metric{
		Name: "underlay_private_flag", Labels: []string{"device", "flag"},
		Help: "Whether the driver's private flag of the underlay NIC is set (ETHTOOL_A_PRIVFLAGS_FLAGS); only flags that " +
			"name a checksum.",
		Samples: each(func(u *node.Underlay, name string, emit Emit) {
			for _, flag := range slices.Sorted(maps.Keys(u.PrivateFlags)) {
				emit.Bool(u.PrivateFlags[flag], name, DeviceLabel(flag))
			}
		}),
	})
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
