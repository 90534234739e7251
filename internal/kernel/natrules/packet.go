package natrules

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
)

// Hooks (include/uapi/linux/netfilter.h, enum nf_inet_hooks).
const (
	hookPrerouting  = 0
	hookForward     = 2
	hookOutput      = 3
	hookPostrouting = 4
)

const (
	protoTCP  = 6
	protoUDP  = 17
	protoSCTP = 132
)

// dim is a field of a packet that differs between the packets of one kind.
type dim uint8

const (
	dimSrc dim = iota
	dimDst
	dimProto
	dimSport
	dimDport
	dimService     // where it was addressed to before its destination was rewritten
	dimServicePort // and the port
	dimUID         // of the owner of the socket that sent it
	dimGID
	dimensions
)

// field is what a field can be: each of set does occur. Not known: it may be one thing only, and nobody knows which.
type field struct {
	set   ranges
	known bool
}

func knownField(r ranges) field { return field{r, true} }

// fieldOf is not known where there is nothing that it can be.
func fieldOf(r ranges) field { return field{r, len(r) > 0} }

// packet is a kind of packet that leaves this node: every combination of its fields occurs. A rule that matches some of
// them splits it. What is not known makes a rule that asks for it match maybe.
type packet struct {
	ipv6        bool
	outer       bool // the outer VXLAN packet; false: the inner one, on its way into the VXLAN device
	fields      [dimensions]field
	out, in     []Interface // by which it leaves and comes in: one of these, the zero Interface for none; nil: not known
	own, ownOut field       // addresses of this namespace, and those of the interface the packet leaves by
	dstUnicast  truth       // the destination is neither multicast nor broadcast
	socket      truth       // it belongs to a socket of this namespace
	masquerade  netip.Addr
}

func (p *packet) addrLen() int { return addrLen(p.ipv6) }

func (p *packet) size(d dim) int {
	switch d {
	case dimSrc, dimDst, dimService:
		return p.addrLen()
	case dimProto:
		return 1
	case dimUID, dimGID:
		return 4
	default:
		return 2
	}
}

// with is p with another set for one field.
func (p *packet) with(d dim, r ranges) *packet {
	q := *p
	q.fields[d] = knownField(r)
	return &q
}

func (p *packet) equal(q *packet) bool {
	for d := range dimensions {
		if !slices.Equal(p.fields[d].set, q.fields[d].set) {
			return false
		}
	}
	return true
}

// join is the kind that holds the packets of p and q, parts of one kind, and no other; nil where there is none.
func (p *packet) join(q *packet) *packet {
	j := p
	for d := range dimensions {
		f, g := &p.fields[d], &q.fields[d]
		if slices.Equal(f.set, g.set) {
			continue
		}
		if j != p {
			return nil
		}
		j = p.with(d, f.set.or(g.set))
	}
	return j
}

// overlaps reports whether one packet can be of both kinds.
func (p *packet) overlaps(q *packet) bool {
	for d := range dimensions {
		if f, g := &p.fields[d], &q.fields[d]; f.known && g.known && len(f.set.and(g.set)) == 0 {
			return false
		}
	}
	return true
}

var (
	everyPort = rangesOf(span{number{0, 1}, number{0, math.MaxUint16}})
	everyUser = rangesOf(span{number{}, number{0, math.MaxUint32 - 1}}) // (uid_t)-1 is nobody's
)

// outerPacket is the outer packet of a VXLAN port: UDP, locally generated.
func outerPacket(port *Port, way *Way, ipv6 bool) *packet {
	p := &packet{ipv6: ipv6, outer: true, dstUnicast: maybe, socket: maybe, out: known(way.Out)}
	p.masquerade = way.Masquerade
	p.fields[dimProto] = knownField(numbers(protoUDP))
	p.fields[dimDport] = knownField(numbers(uint64(cmp.Or(way.Port, port.Port))))
	var ports ranges
	for _, r := range port.SourcePorts {
		ports = ports.or(portsBetween(r.First, r.Last))
	}
	p.fields[dimSport] = fieldOf(ports)
	p.fields[dimSrc] = fieldOf(p.addrs(way.Source))
	p.fields[dimDst] = fieldOf(p.addrs(way.Peers...))
	if p.fields[dimDst].known {
		p.dstUnicast = p.fields[dimDst].set.within(multicast(ipv6)).not()
	}
	if len(port.Devices) > 0 {
		// At POSTROUTING there is none, or, from 5.7, the VXLAN device (ip_output takes skb->dev).
		p.in = append([]Interface{{}}, port.Devices...)
	}
	p.own, p.ownOut = fieldOf(p.addrs(port.Own...)), p.addrsOn(&way.Out)
	return p
}

func multicast(ipv6 bool) ranges {
	if ipv6 {
		return ranges{prefixSpan(netip.MustParsePrefix("ff00::/8"))}
	}
	return ranges{prefixSpan(netip.MustParsePrefix("224.0.0.0/4"))}
}

// innerPacket is a packet of a sender on its way into the VXLAN devices of the port. Those that matter are TCP, UDP or
// SCTP: their checksums are what a device leaves unfinished.
func innerPacket(port *Port, s *Sender, ipv6 bool) *packet {
	p := &packet{ipv6: ipv6, dstUnicast: yes, socket: truthOf(s.In == nil), out: known(s.Out), in: []Interface{{}}}
	p.own, p.ownOut = fieldOf(p.addrs(port.Own...)), p.addrsOn(&s.Out)
	// With the node's own address there, which its processes may use.
	p.fields[dimSrc] = fieldOf(prefixRanges(s.Sources, ipv6))
	if to := prefixRanges(s.Destinations, ipv6); len(to) > 0 {
		p.fields[dimDst] = knownField(to.without(p.own.set))
	}
	p.fields[dimProto] = knownField(numbers(protoTCP, protoUDP, protoSCTP))
	for _, d := range []dim{dimSport, dimDport, dimServicePort} {
		p.fields[d] = knownField(everyPort)
	}
	p.fields[dimService] = knownField(rangesOf(span{number{}, numberOf(slices.Repeat([]byte{0xff}, p.addrLen()))}))
	if s.In == nil {
		p.fields[dimUID], p.fields[dimGID] = knownField(everyUser), knownField(everyUser)
	} else {
		p.in = known(s.In...)
	}
	return p
}

// addrs are those of the packet's family.
func (p *packet) addrs(all ...netip.Addr) (r ranges) {
	var of []netip.Addr
	for _, a := range all {
		if a = a.Unmap(); a.IsValid() && a.Is6() == p.ipv6 {
			of = append(of, a)
		}
	}
	return addrRanges(of)
}

// addrsOn are those of an interface, of which there may be none of the family.
func (p *packet) addrsOn(i *Interface) field {
	return field{p.addrs(i.Addrs...), len(i.Addrs) > 0}
}

// known are interfaces; nil where all that is known of them is that there is one.
func known(all ...Interface) []Interface {
	if len(all) == 1 && all[0].Name == "" {
		return nil
	}
	return all
}

// indexes are those of interfaces as nf_tables compares them; nil where one is not known.
func indexes(all []Interface) ranges {
	if slices.ContainsFunc(all, func(i Interface) bool { return i.Index == 0 && i.Name != "" }) {
		return nil
	}
	//nolint:gosec // an interface index is a positive int32
	return union(all, func(i Interface) span { return one(inHostOrder(uint32(i.Index))) })
}

// names are those of interfaces as the kernel compares them: padded with zeros to IFNAMSIZ.
func names(all []Interface) ranges {
	return union(all, func(i Interface) span {
		var b [16]byte
		copy(b[:15], i.Name)
		return one(numberOf(b[:]))
	})
}
