package natrules

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"vxlan_exporter/internal/kernel/nl"

	"golang.org/x/sys/unix"
)

// multipath are the interfaces of RTA_MULTIPATH's next hops: struct rtnexthop {u16 len; u8 flags, hops; s32 ifindex}
// with attributes behind it, aligned to 4 (include/uapi/linux/rtnetlink.h). Several can be behind one interface.
func multipath(b []byte) ([]int, error) {
	var all []int
	for len(b) >= unix.SizeofRtNexthop {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) || !nl.WellFormed(b[unix.SizeofRtNexthop:size]) {
			return nil, nl.ErrMalformed
		}
		index := int(binary.NativeEndian.Uint32(b[4:]))
		if index == 0 {
			return nil, errUntold
		}
		if len(all) == 0 || all[len(all)-1] != index {
			all = append(all, index)
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	if len(all) == 0 || len(b) > 0 {
		return nil, nl.ErrMalformed
	}
	return all, nil
}

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
	n, ok, err := attributesOf(b, unix.SizeofNhmsg, unix.AF_UNSPEC, unix.AF_INET, unix.AF_INET6)
	if !ok {
		return err
	}
	id, named, idErr := n.number(unix.NHA_ID)
	oif, _, oifErr := n.number(unix.NHA_OIF)
	gateway, err := n.addr(unix.NHA_GATEWAY)
	members := n[unix.NHA_GROUP]
	const member = 8
	if err != nil || idErr != nil || oifErr != nil || !named || len(members)%member != 0 {
		return nl.ErrMalformed
	}
	h := nexthop{index: int(oif), gateway: gateway}
	for m := range slices.Chunk(members, member) {
		h.group = append(h.group, binary.NativeEndian.Uint32(m))
	}
	g.objects[id] = h
	return g.keep(1 + len(h.group))
}

// each calls f with the next hops that an object stands for. It is errUntold where that cannot be told: the object has
// gone meanwhile, the kernel has no such objects to list, or a group has groups in it, which no kernel allows.
func (g *gathering) each(id uint32, f func(nexthop) error) error {
	h, ok := g.objects[id]
	if !ok {
		return errUntold
	}
	if h.group == nil {
		return f(h)
	}
	for _, id := range h.group {
		m, ok := g.objects[id]
		if !ok || m.group != nil {
			return errUntold
		}
		if err := f(m); err != nil {
			return err
		}
	}
	return nil
}

// resolve puts what names a nexthop object where it belongs. If one of them cannot be told, or they are too many, the
// list that names it tells nothing.
func (g *gathering) resolve() {
	g.kept = 0
	for id, prefixes := range g.routesBy {
		if err := g.each(id, func(h nexthop) (err error) {
			for i := 0; i < len(prefixes) && err == nil; i++ {
				err = g.routed(h.index, prefixes[i])
			}
			return err
		}); err != nil {
			g.forgetRoutes()
			g.routes = nil
			break
		}
	}
	g.kept = 0
	for id, devices := range g.entriesBy {
		if err := g.each(id, func(h nexthop) (err error) {
			for i := 0; i < len(devices) && err == nil; i++ {
				err = g.reached(devices[i], h.gateway)
			}
			return err
		}); err != nil {
			g.forgetForwarding()
			break
		}
	}
}

// reached keeps that a tunnel sends to an address.
func (g *gathering) reached(index int, a netip.Addr) error {
	if !a.IsValid() {
		return errUntold
	}
	g.remotes[index] = append(g.remotes[index], remote{Addr: a})
	return g.keep(1)
}
