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

// UnderlayConfig says what the underlay collector reads and publishes. The zero value reads the process's network namespace.
type UnderlayConfig struct {
	FeatureInclude *regexp.Regexp // features to publish besides the built-in ones; matched anywhere in the name; nil: none
	Features       ethtool.Path   // how features are read; "": ethtool.Auto

	OpenRoute   nl.Opener                           // nil: nl.Route
	OpenIoctl   func() (ethtool.IoctlSocket, error) // nil: ethtool.OpenIoctl
	OpenNetlink func() (ethtool.NetlinkConn, error) // nil: ethtool.OpenNetlink
}

// Underlay reads the NICs below the VXLAN devices.
type Underlay struct {
	Metrics
	cfg     UnderlayConfig
	ethtool *ethtool.Client
}

// NewUnderlay returns the collector called "underlay". It needs no capability.
func NewUnderlay(cfg UnderlayConfig) *Underlay {
	return &Underlay{cfg: cfg, Metrics: underlayMetrics(cfg.FeatureInclude), ethtool: ethtool.NewClient(ethtool.Config{
		Path: cfg.Features, OpenIoctl: cfg.OpenIoctl, OpenNetlink: cfg.OpenNetlink,
	})}
}

// Name implements Collector.
func (*Underlay) Name() string { return "underlay" }

// Observe implements Collector: it fills Underlays, sorted by name, with the NICs below the known devices. What could not be read
// of a NIC is missing there, and the error says so. A NIC that vanishes while it is read is left out.
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
	// Without the family "ethtool" link state is that of rtnetlink. What fails here failed on the way to the kernel: asking for the
	// flags too would only fail again.
	up, err := c.ethtool.LinkUp(ctx, d)
	if err == nil {
		u.LinkUp = &up
	}
	if err == nil || errors.Is(err, errors.ErrUnsupported) {
		u.PrivateFlags, err = c.ethtool.ChecksumFlags(ctx, d)
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return u, fmt.Errorf("underlay: %w", err)
	}
	return u, nil
}
