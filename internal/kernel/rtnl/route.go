package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// RouteQuery is a packet whose way is asked for.
type RouteQuery struct {
	Destination netip.Addr
	Source      netip.Addr // not valid: none is chosen yet
	In          int        // the interface that it came in by; 0: this node sends it
	Out         int        // the interface that it must leave by; 0: any
	Mark        uint32
	UDPPort     uint16 // its UDP destination port; 0: it is not UDP, or that does not matter
}

// Route is where the kernel would send a packet (ip route get).
type Route struct {
	Index   int        // interface it leaves by
	NextHop netip.Addr // not valid: the destination itself
	Source  netip.Addr // address it would be sent from; not valid where the kernel does not say
	Local   bool       // it is for this node
}

// ErrNoRoute is the answer that such a packet is not sent, or not forwarded.
var ErrNoRoute = errors.New("no route")

// Route asks where a packet of this node goes. source may be the zero Addr, mark 0.
func (c *Conn) Route(destination, source netip.Addr, mark uint32) (Route, error) {
	r, err := c.RouteOf(RouteQuery{Destination: destination, Source: source, Mark: mark})
	if err == nil && !r.Source.IsValid() {
		r.Source = source.Unmap()
	}
	return r, err
}

// RouteOf asks for the way of one packet (RTM_GETROUTE): policy rules, marks and source validation count. Kernels
// before 4.18 pass over the protocol and the port.
func (c *Conn) RouteOf(q RouteQuery) (r Route, err error) {
	dst := q.Destination.Unmap()
	family, bits := byte(unix.AF_INET), byte(32)
	if dst.Is6() {
		family, bits = unix.AF_INET6, 128
	}
	b := header(unix.SizeofRtMsg, family, 0)
	b[1] = bits
	b = nl.Append(b, unix.RTA_DST, dst.AsSlice())
	if src := q.Source.Unmap().WithZone(""); src.IsValid() {
		b[2] = bits
		b = nl.Append(b, unix.RTA_SRC, src.AsSlice())
	}
	if q.In != 0 {
		b = nl.Append(b, unix.RTA_IIF, number(q.In))
	}
	if q.Out != 0 {
		b = nl.Append(b, unix.RTA_OIF, number(q.Out))
	}
	if q.Mark != 0 {
		b = nl.Append(b, unix.RTA_MARK, number(q.Mark))
	}
	if q.UDPPort != 0 {
		b = nl.Append(b, unix.RTA_IP_PROTO, []byte{unix.IPPROTO_UDP})
		b = nl.Append(b, unix.RTA_DPORT, binary.BigEndian.AppendUint16(nil, q.UDPPort))
	}
	answer, err := c.Get(unix.RTM_GETROUTE, unix.RTM_NEWROUTE, b)
	// net/ipv4/fib_semantics.c, fib_props
	for _, no := range []error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL, unix.EXDEV} {
		if errors.Is(err, no) {
			err = fmt.Errorf("%w: %w", err, ErrNoRoute)
			break
		}
	}
	if err == nil {
		r, err = parseRoute(answer)
	}
	if err != nil {
		return Route{}, fmt.Errorf("rtnetlink: route to %v: %w", dst, err)
	}
	return r, nil
}

// parseRoute reads struct rtmsg {u8 family, dst_len, src_len, tos, table, protocol, scope, type; u32 flags} and its
// attributes.
func parseRoute(b []byte) (r Route, err error) {
	if len(b) < unix.SizeofRtMsg {
		return r, nl.ErrMalformed
	}
	r.Local = b[7] == unix.RTN_LOCAL
	err = nl.Each(b[unix.SizeofRtMsg:], func(typ uint16, v []byte) (err error) {
		switch typ {
		case unix.RTA_OIF:
			r.Index, err = nl.Index(v)
		case unix.RTA_GATEWAY:
			r.NextHop, err = nl.Address(v, addressSize(b[0]))
		case unix.RTA_VIA: // struct rtvia {u16 family; u8 addr[]}
			r.NextHop, err = nl.AnyAddress(v[min(2, len(v)):])
		case unix.RTA_PREFSRC:
			r.Source, err = nl.Address(v, addressSize(b[0]))
		}
		return err
	})
	return r, err
}
