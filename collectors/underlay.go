package collectors

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

// UnderlayConfig says what the underlay collector reads and publishes. The zero value reads the process's network
// namespace.
type UnderlayConfig struct {
	FeatureInclude *regexp.Regexp // features to publish besides the built-in ones; matched anywhere in the name; nil: none

	OpenRoute nl.Opener                           // nil: nl.Route
	OpenIoctl func() (ethtool.IoctlSocket, error) // nil: ethtool.OpenIoctl
	OpenLinks func() (ethtool.LinkClient, error)  // runs on a thread of its own; nil: ethtool.OpenLinks
}

// Underlay reads the NICs below the VXLAN devices.
type Underlay struct {
	Metrics
	cfg     UnderlayConfig
	ethtool *ethtool.Client
	links   *ethtool.LinkReader
}

// NewUnderlay returns the collector called "underlay". It needs no capability.
func NewUnderlay(cfg UnderlayConfig) *Underlay {
	return &Underlay{
		cfg: cfg, Metrics: underlayMetrics(cfg.FeatureInclude),
		ethtool: ethtool.NewClient(cfg.OpenIoctl), links: ethtool.NewLinkReader(cfg.OpenLinks),
	}
}

// Name implements Collector.
func (*Underlay) Name() string { return "underlay" }

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
	var errs []error
	if u.Features, err = c.ethtool.Features(ctx, d); err != nil {
		u.FeaturesError = err.Error()
		errs = append(errs, err)
	}
	// Not every device has a driver that says its name.
	if u.Driver, err = c.ethtool.Driver(ctx, d); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
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
