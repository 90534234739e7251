package natrules

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/rtnl"
)

func (g *gathering) link(b []byte) error {
	l, err := rtnl.ParseLink(b)
	if err != nil {
		return err
	}
	g.links[l.Index] = l
	return g.keep(1)
}

func (g *gathering) address(b []byte) error {
	a, err := rtnl.ParseAddress(b)
	if err != nil || !a.Addr.IsValid() {
		return err
	}
	g.addrs[a.Index] = append(g.addrs[a.Index], a)
	return g.keep(1)
}

func (g *gathering) forwarding(b []byte) error {
	n, err := rtnl.ParseNeighbor(b)
	switch {
	case err != nil:
		return err
	case n.Nexthop != 0:
		g.entriesBy[n.Nexthop] = append(g.entriesBy[n.Nexthop], n.Index)
	case n.Addr.IsValid() && !n.Addr.IsUnspecified():
		g.remotes[n.Index] = append(g.remotes[n.Index], n)
	default: // an entry of a bridge, or of a device that is itself the end
		return nil
	}
	return g.keep(1)
}

// number is an attribute that holds a u32; 0 where there is no such attribute.
func (n nested) number(kind uint16) (uint32, error) {
	if !n.has(kind) {
		return 0, nil
	}
	return nl.Uint32(n[kind])
}

// route: struct rtmsg {u8 family, dst_len, …, table, protocol, scope, type; u32 flags}. One next hop stands in the
// message itself, several in RTA_MULTIPATH; a nexthop object is named by RTA_NH_ID, beside what it says only where
// net.ipv4.nexthop_compat_mode is 1.
func (g *gathering) route(b []byte) error {
	const rtaNHID = 30 // RTA_NH_ID
	attrs, err := attributesOf(b, unix.SizeofRtMsg)
	if err != nil || b[7] != unix.RTN_UNICAST {
		return err
	}
	n := parseNested(attrs)
	p, err := n.destination(b[0], int(b[1]))
	oif, oifErr := n.number(unix.RTA_OIF)
	id, idErr := n.number(rtaNHID)
	r := ifroute{p, b[5] != unix.RTPROT_KERNEL}
	switch {
	case err != nil || oifErr != nil || idErr != nil:
		return nl.ErrMalformed
	case p.Addr().IsLinkLocalUnicast() || p.Addr().IsMulticast():
		return nil
	}
	g.sources6 = g.sources6 || b[0] == unix.AF_INET6 && n.has(unix.RTA_PREFSRC)
	switch {
	case n.has(unix.RTA_OIF):
		return g.routed(r, int(oif))
	case n.has(unix.RTA_MULTIPATH):
		hops, err := multipath(n[unix.RTA_MULTIPATH])
		if err != nil {
			return err
		}
		return g.routed(r, hops...)
	case n.has(rtaNHID):
		g.routesBy[id] = append(g.routesBy[id], r)
		return g.keep(1)
	default:
		return errUntold
	}
}

// destination is RTA_DST; a route without it is the default.
func (n nested) destination(family byte, bits int) (netip.Prefix, error) {
	a := netip.IPv4Unspecified()
	if family == unix.AF_INET6 {
		a = netip.IPv6Unspecified()
	}
	var err error
	if n.has(unix.RTA_DST) {
		a, err = nl.AnyAddress(n[unix.RTA_DST])
	}
	p := netip.PrefixFrom(a, bits)
	if !p.IsValid() {
		return p, nl.ErrMalformed
	}
	return p, err
}

// routed keeps that a prefix is routed into interfaces.
func (g *gathering) routed(r ifroute, interfaces ...int) error {
	for _, index := range interfaces {
		if index == 0 {
			return errUntold
		}
		g.routes[index] = append(g.routes[index], r)
		if err := g.keep(1); err != nil {
			return err
		}
	}
	return nil
}

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
		if !slices.Contains(all, index) {
			all = append(all, index)
		}
		b = b[min((size+3)&^3, len(b)):]
	}
	if len(all) == 0 || len(b) > 0 {
		return nil, nl.ErrMalformed
	}
	return all, nil
}

// rule: struct fib_rule_hdr {u8 family, dst_len, src_len, tos, table, res1, res2, action; u32 flags}. The kernel's own
// rules are those of the tables local, main and default, and one for all VRFs (net/ipv4/fib_rules.c,
// drivers/net/vrf.c).
func (g *gathering) rule(b []byte) error {
	attrs, err := attributesOf(b, sizeofRuleHdr)
	if err != nil {
		return err
	}
	n := parseNested(attrs)
	p, err := n.number(unix.FRA_PRIORITY)
	marks := n.has(unix.FRA_FWMARK)
	own := (p == 0 || p == 32766 || p == 32767) && b[1] == 0 && b[2] == 0 && !marks
	if err != nil || own || n.has(unix.FRA_L3MDEV) {
		return err
	}
	g.rules, g.marks = true, g.marks || marks
	return nil
}
