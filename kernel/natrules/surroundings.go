package natrules

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// maxSurroundings bounds how many entries of the forwarding database, routes and addresses are kept. Beyond it a list is given
// up, so that no rule is judged by half of the facts.
const maxSurroundings = 65536

// Surroundings are facts about packets that only this namespace's addresses, routes and forwarding databases tell, by interface
// index.
type Surroundings struct {
	addrs   map[int][]netip.Addr
	remotes map[int][]netip.Addr
	overlay map[int][]netip.Prefix
}

// ReadSurroundings reads them over rtnetlink, which needs no privilege.
func ReadSurroundings(ctx context.Context) (*Surroundings, error) {
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{MessageBufferSize: nftReceive})
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	defer func() { _ = conn.Close() }()
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(10 * time.Second)
	}
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, fmt.Errorf("rtnetlink: %w", err)
	}
	s := &Surroundings{map[int][]netip.Addr{}, map[int][]netip.Addr{}, map[int][]netip.Prefix{}}
	for _, dump := range []struct {
		kind    netlink.HeaderType
		request []byte
		each    func([]byte)
	}{
		{unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg), s.address},
		{unix.RTM_GETNEIGH, append([]byte{unix.AF_BRIDGE}, make([]byte, unix.SizeofNdMsg-1)...), s.forwarding},
		{unix.RTM_GETROUTE, make([]byte, unix.SizeofRtMsg), s.route},
	} {
		n := 0
		if _, err := conn.Send(netlink.Message{Header: netlink.Header{Type: dump.kind, Flags: netlink.Request | netlink.Dump}, Data: dump.request}); err != nil {
			return nil, fmt.Errorf("rtnetlink: %w", err)
		}
		for m, err := range conn.ReceiveIter() {
			if err != nil {
				return nil, fmt.Errorf("rtnetlink: %w", err)
			}
			if n++; n > maxSurroundings {
				return nil, fmt.Errorf("rtnetlink: more than %d addresses, neighbours or routes", maxSurroundings)
			}
			dump.each(m.Data)
		}
	}
	return s, nil
}

// address: struct ifaddrmsg {u8 family, prefixlen, flags, scope; u32 index}; IFA_LOCAL, or IFA_ADDRESS where there is none.
func (s *Surroundings) address(b []byte) {
	if len(b) < unix.SizeofIfAddrmsg {
		return
	}
	n := parseNested(b[unix.SizeofIfAddrmsg:])
	a, ok := netip.AddrFromSlice(n[unix.IFA_LOCAL])
	if !ok {
		a, ok = netip.AddrFromSlice(n[unix.IFA_ADDRESS])
	}
	if index := int(binary.NativeEndian.Uint32(b[4:])); ok {
		s.addrs[index] = append(s.addrs[index], a)
	}
}

// forwarding: struct ndmsg {u8 family; pad; s32 ifindex; …}; NDA_DST is where the tunnel sends.
func (s *Surroundings) forwarding(b []byte) {
	if len(b) < unix.SizeofNdMsg {
		return
	}
	a, ok := netip.AddrFromSlice(parseNested(b[unix.SizeofNdMsg:])[unix.NDA_DST])
	if index := int(binary.NativeEndian.Uint32(b[4:])); ok && !a.IsUnspecified() {
		s.remotes[index] = append(s.remotes[index], a)
	}
}

// route: struct rtmsg {u8 family, dst_len, …, table, protocol, scope, type; u32 flags}.
func (s *Surroundings) route(b []byte) {
	if len(b) < unix.SizeofRtMsg || b[7] != unix.RTN_UNICAST {
		return
	}
	n := parseNested(b[unix.SizeofRtMsg:])
	oif := n[unix.RTA_OIF]
	if len(oif) != 4 {
		return
	}
	a, ok := netip.AddrFromSlice(n[unix.RTA_DST])
	if !ok {
		a = netip.IPv4Unspecified()
		if b[0] == unix.AF_INET6 {
			a = netip.IPv6Unspecified()
		}
	}
	if p := netip.PrefixFrom(a, int(b[1])); p.IsValid() && !a.IsLinkLocalUnicast() && !a.IsMulticast() {
		index := int(binary.NativeEndian.Uint32(oif))
		s.overlay[index] = append(s.overlay[index], p)
	}
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
