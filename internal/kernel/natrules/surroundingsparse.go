package natrules

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"

	"vxlan_exporter/internal/kernel/nl"

	"golang.org/x/sys/unix"
)

// attributesOf are the attributes behind a header of so many bytes. ok is false for families other than IP, which lists
// of all families have too (AF_MPLS, RTNL_FAMILY_IPMR, AF_MCTP): what they call an address is none.
func attributesOf(b []byte, header int, families ...byte) (n nested, ok bool, err error) {
	if len(b) < header || !nl.WellFormed(b[header:]) {
		return nil, false, nl.ErrMalformed
	}
	if !slices.Contains(families, b[0]) {
		return nil, false, nil
	}
	return parseNested(b[header:]), true, nil
}

// addr is an attribute that holds an address; it is not valid where there is no such attribute.
func (n nested) addr(kind uint16) (netip.Addr, error) {
	b, there := n[kind]
	a, ok := netip.AddrFromSlice(b)
	if there && !ok {
		return a, nl.ErrMalformed
	}
	return a, nil
}

// number is an attribute that holds a u32; there is false where there is no such attribute.
func (n nested) number(kind uint16) (v uint32, there bool, err error) {
	b, there := n[kind]
	if there && len(b) != 4 {
		return 0, true, nl.ErrMalformed
	}
	if there {
		v = binary.NativeEndian.Uint32(b)
	}
	return v, there, nil
}

// address: struct ifaddrmsg {u8 family, prefixlen, flags, scope; u32 index}; IFA_LOCAL, or IFA_ADDRESS where there is
// none.
func (g *gathering) address(b []byte) error {
	n, ok, err := attributesOf(b, unix.SizeofIfAddrmsg, unix.AF_INET, unix.AF_INET6)
	if !ok {
		return err
	}
	kind := uint16(unix.IFA_LOCAL)
	if !n.has(kind) {
		kind = unix.IFA_ADDRESS
	}
	a, err := n.addr(kind)
	if err != nil || !a.IsValid() {
		return err
	}
	p := netip.PrefixFrom(a, int(b[1]))
	if !p.IsValid() {
		return nl.ErrMalformed
	}
	flags, wide, err := n.number(unix.IFA_FLAGS)
	if !wide {
		flags = uint32(b[2])
	}
	index := int(binary.NativeEndian.Uint32(b[4:]))
	g.addrs[index] = append(g.addrs[index], ifaddr{p, flags, b[3]})
	return errors.Join(err, g.keep(1))
}

// forwarding: struct ndmsg {u8 family; pad; s32 ifindex; …}; NDA_DST is where the tunnel sends, NDA_PORT to which
// port if not to the device's; or NDA_NH_ID names what tells.
func (g *gathering) forwarding(b []byte) error {
	const ndaNHID = 13 // NDA_NH_ID, include/uapi/linux/neighbour.h
	n, ok, err := attributesOf(b, unix.SizeofNdMsg, unix.AF_BRIDGE)
	if !ok {
		return err
	}
	index := int(binary.NativeEndian.Uint32(b[4:]))
	a, err := n.addr(unix.NDA_DST)
	id, by, idErr := n.number(ndaNHID)
	out, _, outErr := n.number(unix.NDA_IFINDEX)
	port, other := n[unix.NDA_PORT]
	switch {
	case err != nil || idErr != nil || outErr != nil || other && len(port) != 2:
		return nl.ErrMalformed
	case by:
		g.entriesBy[id] = append(g.entriesBy[id], index)
	case a.IsValid() && !a.IsUnspecified():
		to := uint16(numberOf(port).low) //nolint:gosec // two bytes
		g.remotes[index] = append(g.remotes[index], remote{a, int(out), to})
	default: // an entry of a bridge, or of a device that is itself the end
		return nil
	}
	return g.keep(1)
}

// route: struct rtmsg {u8 family, dst_len, …, table, protocol, scope, type; u32 flags}. One next hop stands in the
// message itself, several in RTA_MULTIPATH; a nexthop object is named by RTA_NH_ID, beside what it says only where
// net.ipv4.nexthop_compat_mode is 1.
func (g *gathering) route(b []byte) error {
	const rtaNHID = 30 // RTA_NH_ID
	n, ok, err := attributesOf(b, unix.SizeofRtMsg, unix.AF_INET, unix.AF_INET6)
	if !ok || b[7] != unix.RTN_UNICAST {
		return err
	}
	p, err := n.destination(b[0], int(b[1]))
	if err != nil {
		return err
	}
	oif, one, oifErr := n.number(unix.RTA_OIF)
	id, by, idErr := n.number(rtaNHID)
	r := ifroute{p, b[5] != unix.RTPROT_KERNEL}
	g.sources6 = g.sources6 || b[0] == unix.AF_INET6 && n.has(unix.RTA_PREFSRC)
	switch {
	case oifErr != nil || idErr != nil:
		return nl.ErrMalformed
	case p.Addr().IsLinkLocalUnicast() || p.Addr().IsMulticast():
		return nil
	case one:
		return g.routed(int(oif), r)
	case n.has(unix.RTA_MULTIPATH):
		all, err := multipath(n[unix.RTA_MULTIPATH])
		for i := 0; i < len(all) && err == nil; i++ {
			err = g.routed(all[i], r)
		}
		return err
	case by:
		g.routesBy[id] = append(g.routesBy[id], r)
		return g.keep(1)
	default:
		return errUntold
	}
}

// destination is RTA_DST; a route without it is the default.
func (n nested) destination(family byte, bits int) (netip.Prefix, error) {
	a, err := n.addr(unix.RTA_DST)
	if err != nil {
		return netip.Prefix{}, err
	}
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
		if family == unix.AF_INET6 {
			a = netip.IPv6Unspecified()
		}
	}
	p := netip.PrefixFrom(a, bits)
	if !p.IsValid() {
		return p, nl.ErrMalformed
	}
	return p, nil
}

// routed keeps that a prefix is routed into an interface.
func (g *gathering) routed(index int, r ifroute) error {
	if index == 0 {
		return errUntold
	}
	g.routes[index] = append(g.routes[index], r)
	return g.keep(1)
}

// linkRequest asks for all interfaces, without statistics (RTEXT_FILTER_SKIP_STATS).
func linkRequest() []byte {
	const skipStats = 1 << 3
	mask := binary.NativeEndian.AppendUint32(nil, skipStats)
	return nl.Append(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_EXT_MASK, mask)
}

// link: struct ifinfomsg {u8 family; pad; u16 type; s32 index; u32 flags, change}.
func (g *gathering) link(b []byte) error {
	const parentDevice = 56               // IFLA_PARENT_DEV_NAME, from 5.14
	const kind, data, slaveKind = 1, 2, 4 // IFLA_INFO_KIND, _DATA, _SLAVE_KIND
	const portRange = 16                  // IFLA_VXLAN_PORT_RANGE: struct {be16 low, high}
	n, ok, err := attributesOf(b, unix.SizeofIfInfomsg, unix.AF_UNSPEC)
	if !ok {
		return err
	}
	master, _, masterErr := n.number(unix.IFLA_MASTER)
	lower, _, lowerErr := n.number(unix.IFLA_LINK)
	if masterErr != nil || lowerErr != nil {
		return nl.ErrMalformed
	}
	if n.has(unix.IFLA_LINK_NETNSID) { // of another namespace
		lower = 0
	}
	info := parseNested(n[unix.IFLA_LINKINFO])
	var ports PortRange
	if p := parseNested(info[data])[portRange]; info.text(kind) == "vxlan" && len(p) == 4 {
		ports = PortRange{binary.BigEndian.Uint16(p), binary.BigEndian.Uint16(p[2:])}
	}
	g.links[int(binary.NativeEndian.Uint32(b[4:]))] = link{
		name: n.text(unix.IFLA_IFNAME), flags: binary.NativeEndian.Uint32(b[8:]), master: int(master), lower: int(lower),
		vrf: info.text(slaveKind) == "vrf", device: n.has(parentDevice), bridge: info.text(kind) == "bridge", ports: ports,
	}
	return g.keep(1)
}

const sizeofRuleHdr = 12 // struct fib_rule_hdr

// rule: struct fib_rule_hdr {u8 family, dst_len, src_len, tos, table, res1, res2, action; u32 flags}. The kernel's own
// rules are those of the tables local, main and default, and one for all VRFs (net/ipv4/fib_rules.c,
// drivers/net/vrf.c).
func (g *gathering) rule(b []byte) error {
	const priority, fwmark, l3mdev = 6, 10, 19 // FRA_PRIORITY, FRA_FWMARK, FRA_L3MDEV
	n, ok, err := attributesOf(b, sizeofRuleHdr, unix.AF_INET, unix.AF_INET6)
	if !ok {
		return err
	}
	switch p, _, err := n.number(priority); {
	case err != nil:
		return err
	case (p == 0 || p == 32766 || p == 32767) && b[1] == 0 && b[2] == 0 && !n.has(fwmark), n.has(l3mdev):
		return nil
	}
	g.rules, g.marks = true, g.marks || n.has(fwmark)
	return nil
}
