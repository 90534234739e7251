package natrules

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Hooks that a packet on its way out passes (include/uapi/linux/netfilter.h).
const (
	hookOutput      = 3 // NF_INET_LOCAL_OUT
	hookPostrouting = 4 // NF_INET_POST_ROUTING
)

const protoUDP = 17

// packet is what is known of one kind of packet that leaves this node. Unknown bits make a rule that asks for them match maybe.
type packet struct {
	ipv6         bool
	src, dst     value        // addresses, network order
	srcs, dsts   []netip.Addr // all that they can be; empty when that is not known
	proto        value        // one byte
	sport, dport value        // network order
	oif          value        // index, host order
	oifname      value        // IFNAMSIZ bytes
	iif, iifname value        // at POSTROUTING: none, or, from 5.7, for an outer packet the VXLAN device (ip_output takes skb->dev)
	outer        bool         // the outer VXLAN packet; false: the inner one, on its way into the VXLAN device
	srcLocal     truth        // the source is an address of this node
	srcOnOut     truth        // the source is an address of the interface the packet leaves by
	dstUnicast   truth        // the destination is neither multicast nor broadcast
}

func (p *packet) addrLen() int {
	if p.ipv6 {
		return 16
	}
	return 4
}

// outerPacket is the outer packet of a VXLAN port: UDP, locally generated, leaving by an underlay.
func outerPacket(port *Port, ipv6 bool) *packet {
	p := &packet{
		ipv6: ipv6, outer: true,
		proto: knownValue([]byte{protoUDP}), sport: unknownValue(2), dport: knownValue(portBytes(port.Port)),
		srcLocal: yes, dstUnicast: maybe,
	}
	p.srcs, p.dsts = addrsOf(port.Local, p.addrLen()), addrsOf(port.Remotes, p.addrLen())
	p.src, p.dst = commonAddr(p.addrLen(), p.srcs), commonAddr(p.addrLen(), p.dsts)
	p.oif, p.oifname = commonInterface(port.Underlays)
	p.iif, p.iifname = unknownValue(4), unknownValue(16)
	if len(port.Devices) > 0 {
		p.iif, p.iifname = commonInterface(append([]Interface{{}}, port.Devices...))
	}
	p.srcOnOut = onInterface(port.Local, port.Underlays, p.addrLen())
	for i, r := range p.dsts {
		multicast := truthOf(r.IsMulticast())
		switch {
		case i == 0:
			p.dstUnicast = multicast.not()
		case p.dstUnicast != multicast.not():
			p.dstUnicast = maybe
		}
	}
	return p
}

// innerPacket is a packet that enters a VXLAN device of the port. It carries the masquerade mark, so it is TCP, UDP or SCTP to a
// service; locally generated traffic is what a device leaves with its checksum unfinished, so its source is an own address.
func innerPacket(port *Port, ipv6 bool) *packet {
	p := &packet{ipv6: ipv6, proto: unknownValue(1), sport: unknownValue(2), dport: unknownValue(2), srcLocal: yes, dstUnicast: yes}
	p.srcs = addrsOf(port.Inner, p.addrLen())
	p.src = commonAddr(p.addrLen(), p.srcs)
	p.dst = commonPrefix(p.addrLen(), port.Overlay)
	p.oif, p.oifname = commonInterface(port.Devices)
	p.iif, p.iifname = knownValue(make([]byte, 4)), knownValue(make([]byte, 16))
	p.srcOnOut = onInterface(port.Inner, port.Devices, p.addrLen())
	return p
}

// onInterface says whether the source is an address of the interface the packet leaves by.
func onInterface(src []netip.Addr, ifs []Interface, n int) truth {
	src = addrsOf(src, n)
	var on, off bool
	for _, i := range ifs {
		if len(i.Addrs) == 0 {
			return maybe
		}
		for _, a := range src {
			found := slices.Contains(i.Addrs, a)
			on, off = on || found, off || !found
		}
	}
	if on == off {
		return maybe
	}
	return truthOf(on)
}

func addrsOf(addrs []netip.Addr, n int) []netip.Addr {
	var of []netip.Addr
	for _, a := range addrs {
		if a = a.Unmap(); a.BitLen() == n*8 {
			of = append(of, a)
		}
	}
	return of
}

func commonAddr(n int, addrs []netip.Addr) value {
	var candidates [][]byte
	for _, a := range addrs {
		candidates = append(candidates, a.AsSlice())
	}
	return commonValue(n, candidates)
}

func commonPrefix(n int, prefixes []netip.Prefix) value {
	var v value
	for _, p := range prefixes {
		if !p.IsValid() || p.Addr().BitLen() != n*8 {
			continue
		}
		addr, mask := prefixBytes(p)
		if v == nil {
			v = knownValue(addr)
		}
		for i := range v {
			v[i].known &= mask[i] &^ (v[i].bits ^ addr[i])
			v[i].bits &= v[i].known
		}
	}
	if v == nil {
		return unknownValue(n)
	}
	return v
}

func commonInterface(all []Interface) (index, name value) {
	var indexes, names [][]byte
	for _, i := range all {
		names = append(names, ifnameBytes(i.Name))
		if i.Index != 0 || i.Name == "" {
			indexes = append(indexes, binary.NativeEndian.AppendUint32(nil, uint32(i.Index))) //nolint:gosec // an interface index is a positive int32
		}
	}
	if len(indexes) < len(names) {
		indexes = nil
	}
	return commonValue(4, indexes), commonValue(16, names)
}

// network returns n bytes of the network header from offset off, as the payload expression reads them.
func (p *packet) network(off, n int) value {
	header := unknownValue(20)
	if p.ipv6 {
		header = unknownValue(40) // RFC 8200 section 3; the tunnel adds no extension header
		header[0] = partial{0x60, 0xf0}
		header[6] = p.proto[0]
		copy(header[8:], p.src)
		copy(header[24:], p.dst)
	} else {
		header[0] = partial{0x40, 0xf0} // RFC 791 section 3.1
		if p.outer {
			header[0] = partial{0x45, 0xff} // the tunnel writes no options (iptunnel_xmit)
		}
		header[9] = p.proto[0]
		copy(header[12:], p.src)
		copy(header[16:], p.dst)
	}
	return part(header, off, n)
}

// transport returns n bytes of the transport header from offset off.
func (p *packet) transport(off, n int) value {
	header := make(value, 4, 8)
	copy(header, p.sport)
	copy(header[2:], p.dport)
	return part(append(header, unknownValue(4)...), off, n)
}

func part(header value, off, n int) value {
	v := unknownValue(n)
	if off >= 0 && off < len(header) {
		copy(v, header[off:])
	}
	return v
}
