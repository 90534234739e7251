package collectors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
)

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
