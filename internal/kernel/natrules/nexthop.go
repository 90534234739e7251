package natrules

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/rtnl"
)

// nexthop is a nexthop object: one next hop, or a group of objects that are none.
type nexthop struct {
	index   int // of the interface; 0: it has none (a blackhole, or an object for forwarding databases)
	gateway netip.Addr
	group   []uint32
}

// object: struct nhmsg {u8 family, scope, protocol, reserved; u32 flags}; groups have no family
// (include/uapi/linux/nexthop.h). NHA_GROUP is an array of struct nexthop_grp {u32 id; u8 weight, weight_high; u16
// reserved}.
func (g *gathering) object(b []byte) error {
	const member = 8
	attrs, err := attributesOf(b, unix.SizeofNhmsg)
	if err != nil {
		return err
	}
	n := parseNested(attrs)
	id, idErr := n.number(unix.NHA_ID)
	oif, oifErr := n.number(unix.NHA_OIF)
	h := nexthop{index: int(oif)}
	if n.has(unix.NHA_GATEWAY) {
		h.gateway, err = nl.AnyAddress(n[unix.NHA_GATEWAY])
	}
	members := n[unix.NHA_GROUP]
	if err != nil || idErr != nil || oifErr != nil || !n.has(unix.NHA_ID) || len(members)%member != 0 {
		return nl.ErrMalformed
	}
	for m := range slices.Chunk(members, member) {
		h.group = append(h.group, binary.NativeEndian.Uint32(m))
	}
	g.objects[id] = h
	return g.keep(1 + len(h.group))
}

// hops are the next hops that an object stands for. It is errUntold where that cannot be told: the object has gone
// meanwhile, the kernel has no such objects to list, or a group has groups in it, which no kernel allows.
func (g *gathering) hops(id uint32) (all []nexthop, err error) {
	h, ok := g.objects[id]
	group := h.group
	if group == nil {
		all = append(all, h)
	}
	for _, id := range group {
		if h, ok = g.objects[id]; !ok || h.group != nil {
			return nil, errUntold
		}
		all = append(all, h)
	}
	if !ok {
		err = errUntold
	}
	return all, err
}

// eachHop calls f with each next hop that objects stand for, and each of what names the object.
func eachHop[T any](g *gathering, by map[uint32][]T, f func(nexthop, T) error) error {
	g.kept = 0
	for id, all := range by {
		hops, err := g.hops(id)
		if err != nil {
			return err
		}
		for _, h := range hops {
			for _, v := range all {
				if err := f(h, v); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// resolve puts what names a nexthop object where it belongs. If one of them cannot be told, or they are too many, the
// list that names it tells nothing.
func (g *gathering) resolve() {
	if eachHop(g, g.routesBy, func(h nexthop, r ifroute) error { return g.routed(r, h.index) }) != nil {
		g.forgetRoutes()
		g.routes = nil
	}
	if eachHop(g, g.entriesBy, func(h nexthop, device int) error {
		if !h.gateway.IsValid() {
			return errUntold
		}
		g.remotes[device] = append(g.remotes[device], rtnl.Neighbor{Index: device, Addr: h.gateway})
		return g.keep(1)
	}) != nil {
		g.forgetRemotes()
	}
}
