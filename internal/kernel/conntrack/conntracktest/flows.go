package conntracktest

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// TCP returns the i-th of many distinct TCP flows, none of which goes to a well-known VXLAN port.
func TCP(i int) Flow { return numbered(unix.IPPROTO_TCP, 10, i, 443) }

// UDP returns the i-th of many distinct UDP flows to port 53.
func UDP(i int) Flow { return numbered(unix.IPPROTO_UDP, 11, i, 53) }

// VXLAN returns the i-th of many distinct flows to port.
func VXLAN(i int, port uint16) Flow { return numbered(unix.IPPROTO_UDP, 12, i, port) }

// VXLAN6 is VXLAN over IPv6.
func VXLAN6(i int, port uint16) Flow {
	f := VXLAN(i, port)
	six := func(a netip.AddrPort) netip.AddrPort {
		v4 := a.Addr().As4()
		v6 := [16]byte{0: 0xfd, 12: v4[0], 13: v4[1], 14: v4[2], 15: v4[3]}
		return netip.AddrPortFrom(netip.AddrFrom16(v6), a.Port())
	}
	f.Source, f.Destination = six(f.Source), six(f.Destination)
	return f
}

// WithSNAT returns f with its source port rewritten by the kernel's NAT.
func (f Flow) WithSNAT() Flow {
	f.SNAT = netip.AddrPortFrom(f.Source.Addr(), f.Source.Port()^0x4001)
	return f
}

// numbered spreads i over 8,000 sources and their ports.
func numbered(proto uint8, net byte, i int, port uint16) Flow {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], uint32(net)<<24|uint32(i%8000+1))
	src := netip.AddrPortFrom(netip.AddrFrom4(a), uint16(1024+i/8000))
	return Flow{Proto: proto, Source: src, Destination: netip.AddrPortFrom(netip.AddrFrom4([4]byte{net, 200, 0, 1}), port)}
}

// Decoys are flows that look like VXLAN to port and are not: TCP to the port, UDP from it, UDP to its neighbors.
func Decoys(port uint16) []Flow {
	tcp := numbered(unix.IPPROTO_TCP, 13, 0, port)
	from := numbered(unix.IPPROTO_UDP, 13, 1, 40000)
	from.Source = netip.AddrPortFrom(from.Source.Addr(), port)
	tcp6 := VXLAN6(7, port)
	tcp6.Proto = unix.IPPROTO_TCP
	return []Flow{
		tcp, from, tcp6,
		numbered(unix.IPPROTO_UDP, 13, 2, port+1),
		numbered(unix.IPPROTO_UDP, 13, 3, port-1),
		numbered(unix.IPPROTO_UDP, 13, 4, port<<8|port>>8), // the port in the other byte order
	}
}
