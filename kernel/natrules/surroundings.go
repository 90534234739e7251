package natrules

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/kernel/rtnl"
)

// maxSurroundings bounds how many entries of the forwarding database, routes and addresses are kept. A longer list is given up: what
// it would tell is not known then, so that no rule is judged by half of the facts.
const maxSurroundings = 65536

var errTooMany = errors.New("too many entries")

// Surroundings are facts about packets that only this namespace's addresses, routes and forwarding databases tell, by interface
// index. The zero value knows nothing.
type Surroundings struct {
	addrs   map[int][]netip.Addr
	remotes map[int][]netip.Addr
	overlay map[int][]netip.Prefix
}

// ReadSurroundings reads them over rtnetlink, which needs no privilege. Each list has a socket of its own, in the network namespace of
// the calling thread. A list that cannot be read to its end is an error.
func ReadSurroundings(ctx context.Context, open rtnl.Opener) (*Surroundings, error) {
	s := &Surroundings{}
	for _, l := range []struct {
		what           string
		request, reply netlink.HeaderType
		data           []byte
		reset          func()
		each           func([]byte) error
	}{
		{
			"addresses", unix.RTM_GETADDR, unix.RTM_NEWADDR, make([]byte, unix.SizeofIfAddrmsg),
			func() { s.addrs = map[int][]netip.Addr{} }, s.address,
		},
		{
			"forwarding databases", unix.RTM_GETNEIGH, unix.RTM_NEWNEIGH, append([]byte{unix.AF_BRIDGE}, make([]byte, unix.SizeofNdMsg-1)...),
			func() { s.remotes = map[int][]netip.Addr{} }, s.forwarding,
		},
		{
			"routes", unix.RTM_GETROUTE, unix.RTM_NEWROUTE, make([]byte, unix.SizeofRtMsg),
			func() { s.overlay = map[int][]netip.Prefix{} }, s.route,
		},
	} {
		n := 0
		err := dump(ctx, open, func(c *rtnl.Conn) error {
			return c.Dump(l.request, l.reply, l.data, func() { l.reset(); n = 0 }, func(b []byte) error {
				if n++; n > maxSurroundings {
					return errTooMany
				}
				return l.each(b)
			})
		})
		if errors.Is(err, errTooMany) {
			l.reset()
		} else if err != nil {
			return nil, fmt.Errorf("%s: %w", l.what, err)
		}
	}
	return s, nil
}

func dump(ctx context.Context, open rtnl.Opener, with func(*rtnl.Conn) error) error {
	conn, err := rtnl.Dial(ctx, open)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if err := with(conn); err != nil {
		return fmt.Errorf("rtnetlink: %w", err)
	}
	return nil
}

// attributesOf are the attributes behind a header of so many bytes. ok is false for families other than IP, which lists of all
// families have too (AF_MPLS, RTNL_FAMILY_IPMR, AF_MCTP): what they call an address is none.
func attributesOf(b []byte, header int, families ...byte) (n nested, ok bool, err error) {
	if len(b) < header || !wellFormed(b[header:]) {
		return nil, false, errMessage
	}
	if !slices.Contains(families, b[0]) {
		return nil, false, nil
	}
	return parseNested(b[header:]), true, nil
}

// errMessage: lengths in a message contradict each other.
var errMessage = errors.New("malformed netlink message")

// addr is an attribute that holds an address; it is not valid where there is no such attribute.
func (n nested) addr(kind uint16) (netip.Addr, error) {
	b, there := n[kind]
	a, ok := netip.AddrFromSlice(b)
	if there && !ok {
		return a, errMessage
	}
	return a, nil
}

// address: struct ifaddrmsg {u8 family, prefixlen, flags, scope; u32 index}; IFA_LOCAL, or IFA_ADDRESS where there is none.
func (s *Surroundings) address(b []byte) error {
	n, ok, err := attributesOf(b, unix.SizeofIfAddrmsg, unix.AF_INET, unix.AF_INET6)
	if !ok {
		return err
	}
	kind := uint16(unix.IFA_LOCAL)
	if !n.has(kind) {
		kind = unix.IFA_ADDRESS
	}
	a, err := n.addr(kind)
	if index := int(binary.NativeEndian.Uint32(b[4:])); err == nil && a.IsValid() {
		s.addrs[index] = append(s.addrs[index], a)
	}
	return err
}

// forwarding: struct ndmsg {u8 family; pad; s32 ifindex; …}; NDA_DST is where the tunnel sends.
func (s *Surroundings) forwarding(b []byte) error {
	n, ok, err := attributesOf(b, unix.SizeofNdMsg, unix.AF_BRIDGE)
	if !ok {
		return err
	}
	a, err := n.addr(unix.NDA_DST)
	if index := int(binary.NativeEndian.Uint32(b[4:])); err == nil && a.IsValid() && !a.IsUnspecified() {
		s.remotes[index] = append(s.remotes[index], a)
	}
	return err
}

// route: struct rtmsg {u8 family, dst_len, …, table, protocol, scope, type; u32 flags}.
func (s *Surroundings) route(b []byte) error {
	n, ok, err := attributesOf(b, unix.SizeofRtMsg, unix.AF_INET, unix.AF_INET6)
	if !ok || b[7] != unix.RTN_UNICAST || !n.has(unix.RTA_OIF) {
		return err
	}
	oif := n[unix.RTA_OIF]
	a, err := n.addr(unix.RTA_DST)
	if err != nil || len(oif) != 4 {
		return errMessage
	}
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
		if b[0] == unix.AF_INET6 {
			a = netip.IPv6Unspecified()
		}
	}
	p := netip.PrefixFrom(a, int(b[1]))
	if !p.IsValid() {
		return errMessage
	}
	if !a.IsLinkLocalUnicast() && !a.IsMulticast() {
		index := int(binary.NativeEndian.Uint32(oif))
		s.overlay[index] = append(s.overlay[index], p)
	}
	return nil
}

// Addrs are the addresses of an interface.
func (s *Surroundings) Addrs(index int) []netip.Addr { return s.addrs[index] }

// Bearer is the index of the interface that has an address; 0 when none has.
func (s *Surroundings) Bearer(addr netip.Addr) int {
	for index, addrs := range s.addrs {
		if slices.Contains(addrs, addr) {
			return index
		}
	}
	return 0
}

// Remotes are the tunnel endpoints in the forwarding database of a VXLAN device.
func (s *Surroundings) Remotes(index int) []netip.Addr { return s.remotes[index] }

// Overlay are the prefixes that are routed into an interface.
func (s *Surroundings) Overlay(index int) []netip.Prefix { return s.overlay[index] }
