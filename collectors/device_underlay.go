package collectors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"

	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

const loopbackIndex = 1 // include/linux/netdevice.h, LOOPBACK_IFINDEX

// way is what devices have in common whose packets are taken to leave by one way: one of them is asked for.
type way struct {
	local netip.Addr
	link  int
}

// nameUnderlays fills Underlay: the device that the route to a peer leads to. Where that is not known it is the one
// that IFLA_VXLAN_LINK names or, without it, the one that bears the local address, unless that is lo, by which nothing
// leaves. The underlay of a device that was moved here is in another namespace.
func (c *Device) nameUnderlays(ctx context.Context, conn *rtnl.Conn, devices []node.Device) error {
	var errs []error
	names := map[way]string{}
	for i := range devices {
		d := &devices[i]
		if d.LinkNetns != nil {
			continue
		}
		w := way{d.Local, d.UnderlayIndex}
		name, known := names[w]
		if !known {
			var err error
			if name, err = c.underlayOf(ctx, conn, d); err != nil {
				errs = append(errs, fmt.Errorf("underlay of %q: %w", d.Name, err))
			}
			names[w] = name
		}
		d.Underlay = name
	}
	return errors.Join(errs...)
}

func (c *Device) underlayOf(ctx context.Context, conn *rtnl.Conn, d *node.Device) (name string, err error) {
	index, wayErr := c.wayOut(ctx, conn, d)
	index = cmp.Or(index, d.UnderlayIndex)
	var ownerErr, nicErr error
	if index == 0 && d.Local.IsValid() {
		var owners map[netip.Addr]int
		if owners, ownerErr = conn.Owners([]netip.Addr{d.Local}); owners[d.Local] != loopbackIndex {
			index = owners[d.Local]
		}
	}
	if index > 0 {
		var nic rtnl.Link
		nic, nicErr = conn.NIC(index)
		if name = nic.Name; errors.Is(nicErr, fs.ErrNotExist) {
			nicErr = nil
		}
	}
	return name, errors.Join(wayErr, ownerErr, nicErr)
}

// wayOut is the interface by which packets to a peer of the device leave; 0: not known.
func (c *Device) wayOut(ctx context.Context, conn *rtnl.Conn, d *node.Device) (int, error) {
	peer, known := rtnl.Neighbor{Addr: d.Remote, Out: d.UnderlayIndex}, d.Remote.IsValid() && !d.Remote.IsMulticast()
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

// maxNamespaces bounds the named namespaces that are asked about.
const maxNamespaces = 256

// nameNamespaces fills LinkNetnsPath: the namespace that a device was moved here from, where it is that of the first
// process, or has a name that iproute2 or Docker gave it. What cannot be opened or asked stays unnamed.
func (c *Device) nameNamespaces(conn *rtnl.Conn, devices []node.Device) {
	names := map[int32]string{}
	for i := range devices {
		d := &devices[i]
		if d.LinkNetns == nil {
			continue
		}
		if len(names) == 0 {
			c.listNamespaces(conn, names)
		}
		d.LinkNetnsPath = names[*d.LinkNetns]
	}
}

func (c *Device) listNamespaces(conn *rtnl.Conn, names map[int32]string) {
	paths := []string{filepath.Join(c.cfg.Proc, "1/ns/net")}
	for _, pattern := range []string{"/run/netns/*", "/run/docker/netns/*"} {
		found, _ := filepath.Glob(pattern) // the patterns are well formed
		paths = append(paths, found...)
	}
	for _, path := range paths[:min(maxNamespaces, len(paths))] {
		f, err := os.Open(path)
		if err != nil {
			continue
		}
		if id, err := conn.NamespaceID(int(f.Fd())); err == nil && names[id] == "" {
			names[id] = path
		}
		_ = f.Close()
	}
}
