package natrules

import (
	"golang.org/x/sys/unix"
)

// PortElsewhere is what is known of the packets of a port whose devices are in other network namespaces, while their
// socket is here. Outer packets come without a mark, since it does not cross (net/core/skbuff.c, skb_scrub_packet), and
// to peers that are not known: they leave by any interface that leads out of the node, or, where none is known to, by
// any.
func (s *Surroundings) PortElsewhere(port uint16, ipv4, ipv6 bool) Port {
	p := Port{Port: port, IPv4: ipv4, IPv6: ipv6, Senders: func(bool, uint32) []Sender { return nil }}
	if len(s.links) == 0 {
		return p
	}
	for index := range s.addrs {
		p.Own = append(p.Own, s.Addrs(index)...)
	}
	a := &around{Surroundings: s, port: port}
	p.Ways = remembered(a, func(ipv6 bool, _ uint32) []Way {
		var out, all []Way
		for _, index := range a.upAndAddressed() {
			for _, source := range a.primary(index, ipv6) {
				w := Way{Out: a.interfaceOf(index), Source: source, Masquerade: source}
				if all = append(all, w); a.leads(index) {
					out = append(out, w)
				}
			}
		}
		if len(out) > 0 {
			return out
		}
		return all
	})
	return p
}

// upAndAddressed are the interfaces, lo apart, that packets can leave by with an address of their own.
func (s *Surroundings) upAndAddressed() []int {
	return those(s.addrs, func(index int) bool {
		return s.links[index].Flags&(unix.IFF_UP|unix.IFF_LOOPBACK) == unix.IFF_UP
	})
}
