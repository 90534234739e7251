package natrules

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/rtnl"
)

// Tunnel is a VXLAN device.
type Tunnel struct {
	Name     string
	Index    int
	Local    netip.Addr // IFLA_VXLAN_LOCAL; not valid: the kernel chooses
	Link     int        // IFLA_VXLAN_LINK; 0: none
	Underlay string     // the NIC that is taken to be below it; "": not known
	External bool       // it sends where each packet's metadata says
}

// PortOf is what is known of the packets of the devices on one port.
func (s *Surroundings) PortOf(port uint16, ipv4, ipv6 bool, tunnels []Tunnel) Port {
	p := Port{Port: port, IPv4: ipv4, IPv6: ipv6}
	for _, t := range tunnels {
		p.Devices = append(p.Devices, Interface{Name: t.Name, Index: t.Index, Addrs: s.Addrs(t.Index)})
	}
	if len(tunnels) == 0 {
		return p
	}
	if len(s.links) == 0 { // nothing could be read: what the devices say of themselves is left
		p.Ways = func(ipv6 bool, _ uint32) []Way {
			var all []Way
			for _, t := range tunnels {
				if local := t.Local.Unmap(); !local.IsValid() || local.Is6() == ipv6 {
					all = append(all, Way{Out: Interface{Name: t.Underlay, Index: t.Link}, Source: local})
				}
			}
			return all
		}
		return p
	}
	p.Own = s.own()
	for _, t := range tunnels {
		ports, ok := s.sourcePorts(t.Index)
		if !ok {
			p.SourcePorts = nil
			break
		}
		p.SourcePorts = append(p.SourcePorts, ports)
	}
	a := &around{Surroundings: s, port: port, tunnels: tunnels}
	p.Ways = remembered(a, a.ways)
	p.Senders = remembered(a, a.senders)
	return p
}

// PortElsewhere is what is known of the packets of a port whose devices are in other network namespaces, while their
// socket is here. Outer packets come without a mark, since it does not cross (net/core/skbuff.c, skb_scrub_packet), and
// to peers that are not known: they leave by any interface that leads out of the node, or, where none is known to, by
// any.
func (s *Surroundings) PortElsewhere(port uint16, ipv4, ipv6 bool) Port {
	p := Port{Port: port, IPv4: ipv4, IPv6: ipv6, Senders: func(bool, uint32) []Sender { return nil }}
	if len(s.links) == 0 {
		return p
	}
	p.Own = s.own()
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

// around answers what concerns the devices on one port.
type around struct {
	*Surroundings
	port    uint16
	tunnels []Tunnel
	outs    map[int]bool // the interfaces by which outer packets leave; nil until it is asked for
}

// remembered asks once for each family and, where it matters, mark.
func remembered[T any](a *around, f func(ipv6 bool, mark uint32) []T) func(ipv6 bool, mark uint32) []T {
	type question struct {
		ipv6 bool
		mark uint32
	}
	known := map[question][]T{}
	return func(ipv6 bool, mark uint32) []T {
		if !a.marks {
			mark = 0
		}
		q := question{ipv6, mark}
		if _, ok := known[q]; !ok {
			known[q] = f(ipv6, mark)
		}
		return known[q]
	}
}

func (s *Surroundings) interfaceOf(index int) Interface {
	return Interface{Name: s.links[index].Name, Index: index, Addrs: s.Addrs(index)}
}

// ask asks for the way of a packet. told is false where there is no answer.
func (s *Surroundings) ask(q rtnl.RouteQuery) (r rtnl.Route, told bool, err error) {
	if s.conn == nil {
		return r, false, nil
	}
	r, err = s.conn.RouteOf(q)
	if err != nil && !errors.Is(err, rtnl.ErrNoRoute) {
		return r, false, nil
	}
	return r, true, err
}

// ways are how outer packets with a mark leave, one for each distinct answer.
func (a *around) ways(ipv6 bool, mark uint32) []Way {
	var all []Way
	for _, t := range a.tunnels {
		for _, w := range a.waysOf(t, ipv6, mark) {
			i := slices.IndexFunc(all, func(v Way) bool {
				return v.Out.Name == w.Out.Name && v.Source == w.Source && v.Masquerade == w.Masquerade && v.Port == w.Port &&
					(v.Peers == nil) == (w.Peers == nil)
			})
			if i < 0 {
				all = append(all, w)
				continue
			}
			all[i].Peers = append(all[i].Peers, w.Peers...)
		}
	}
	return all
}

func (a *around) waysOf(t Tunnel, ipv6 bool, mark uint32) []Way {
	others := func(r rtnl.Neighbor) bool { return r.Addr.Unmap().Is6() != ipv6 }
	peers, local := slices.DeleteFunc(slices.Clone(a.remotes[t.Index]), others), t.Local.Unmap()
	switch {
	case local.IsValid() && local.Is6() != ipv6:
		return nil
	case len(peers) == 0 || t.External:
		return []Way{a.unknownWay(t, ipv6)}
	}
	var all []Way
	for _, group := range a.alike(peers) {
		q := rtnl.RouteQuery{Destination: group[0].Addr, Source: local, Out: group[0].Out, Mark: mark}
		q.UDPPort = cmp.Or(group[0].Port, a.port)
		w := a.unknownWay(t, ipv6)
		if r, told, err := a.ask(q); err == nil && told { // else a route may come
			w = a.way(r, q)
		}
		w.Port = group[0].Port
		for _, p := range group {
			w.Peers = append(w.Peers, p.Addr)
		}
		all = append(all, w)
	}
	return all
}

// way is an answer with what MASQUERADE would make of the source.
func (a *around) way(r rtnl.Route, q rtnl.RouteQuery) Way {
	source, out := cmp.Or(q.Source, r.Source), r.Index
	if l := a.links[out]; l.InVRF { // its POSTROUTING comes first (drivers/net/vrf.c), and nat binds the flow there
		out = l.Master
	}
	return Way{Out: a.interfaceOf(out), Source: source, Masquerade: a.masquerade(out, q, r)}
}

// unknownWay is the way of packets to peers that are not known: by the device that the tunnel is made on, or the only
// NIC there is.
func (a *around) unknownWay(t Tunnel, ipv6 bool) Way {
	w, out := Way{Source: t.Local.Unmap()}, t.Link
	if nics := a.outside(ipv6); out == 0 && len(nics) == 1 {
		out = nics[0]
	}
	if out == 0 {
		return w
	}
	w.Out = a.interfaceOf(out)
	if own := a.primary(out, ipv6); len(own) == 1 { // there is no choice
		w.Masquerade = own[0]
		if !w.Source.IsValid() && len(a.global(out, ipv6)) == 1 {
			w.Source = own[0]
		}
	}
	return w
}

// outside are the interfaces with a default route.
func (a *around) outside(ipv6 bool) []int {
	return those(a.routes, func(index int) bool {
		return !a.isTunnel(index) && slices.ContainsFunc(a.routes[index], func(r ifroute) bool {
			return r.Bits() == 0 && r.Addr().Is6() == ipv6
		})
	})
}

// those are the interfaces of a list that pass a test, by their indexes.
func those[T any](list map[int]T, passes func(index int) bool) []int {
	var all []int
	for index := range list {
		if passes(index) {
			all = append(all, index)
		}
	}
	slices.Sort(all)
	return all
}

func (a *around) isTunnel(index int) bool {
	return slices.ContainsFunc(a.tunnels, func(t Tunnel) bool { return t.Index == index })
}

// global are the addresses of an interface that others can reach.
func (s *Surroundings) global(index int, ipv6 bool) []netip.Addr {
	return slices.DeleteFunc(s.Addrs(index), func(a netip.Addr) bool {
		return a.Is6() != ipv6 || a.IsLinkLocalUnicast() || a.IsLoopback()
	})
}

// primary are those of which MASQUERADE takes one.
func (s *Surroundings) primary(index int, ipv6 bool) []netip.Addr {
	if ipv6 {
		return s.global(index, true)
	}
	var all []netip.Addr
	for _, a := range s.addrs[index] {
		if usable(a) {
			all = append(all, a.Addr)
		}
	}
	return all
}

// usable reports whether MASQUERADE takes an IPv4 address.
func usable(a rtnl.Address) bool {
	return a.Addr.Is4() && a.Flags&unix.IFA_F_SECONDARY == 0 && a.Scope == unix.RT_SCOPE_UNIVERSE
}

// masquerade is the address that MASQUERADE takes for a packet that leaves by out.
func (a *around) masquerade(out int, q rtnl.RouteQuery, r rtnl.Route) netip.Addr {
	if q.Destination.Unmap().Is6() {
		return a.masquerade6(out, q)
	}
	next := r.NextHop
	if !next.Is4() {
		next = q.Destination.Unmap()
	}
	// net/ipv4/devinet.c, inet_select_addr: the first primary address in the subnet of the next hop, else the first.
	for _, i := range a.addrs[out] {
		if usable(i) && netip.PrefixFrom(i.Addr, i.Bits).Contains(next) {
			return i.Addr
		}
	}
	if all := a.primary(out, false); len(all) > 0 {
		return all[0]
	}
	// Without any, the first address of another interface, lo first; in a VRF, one of its own.
	domain := a.domain(out)
	inside := those(a.addrs, func(index int) bool { return a.domain(index) == domain })
	for _, index := range append([]int{domain}, inside...) {
		if p := a.primary(index, false); len(p) > 0 {
			return p[0]
		}
	}
	return netip.Addr{}
}

// domain is the VRF that an interface belongs to; 0: none.
func (s *Surroundings) domain(index int) int {
	if l := s.links[index]; l.InVRF {
		return l.Master
	}
	for _, l := range s.links {
		if l.InVRF && l.Master == index {
			return index
		}
	}
	return 0
}

// masquerade6 asks the kernel, which chooses the source of a packet that has none in the same way (net/ipv6/addrconf.c,
// ipv6_dev_get_saddr), unless a route names one.
func (a *around) masquerade6(out int, q rtnl.RouteQuery) netip.Addr {
	if own := a.global(out, true); len(own) == 1 {
		return own[0]
	}
	if a.sources6 {
		return netip.Addr{}
	}
	r, _, err := a.ask(rtnl.RouteQuery{Destination: q.Destination, Out: out, Mark: q.Mark, UDPPort: q.UDPPort})
	if err != nil || r.Index != out {
		return netip.Addr{}
	}
	return r.Source
}

// alike groups peers that the same routes lead to: policy rules apart, which are asked for each.
func (a *around) alike(peers []rtnl.Neighbor) [][]rtnl.Neighbor {
	const most = 256 // questions
	type key struct {
		netip.Prefix
		out  int
		port uint16
	}
	routed := map[netip.Prefix]bool{}
	for _, routes := range a.routes {
		for _, r := range routes {
			routed[r.Masked()] = true
		}
	}
	groups := map[key]int{}
	var all [][]rtnl.Neighbor
	for _, p := range peers {
		p.Addr = p.Addr.Unmap()
		k := key{netip.PrefixFrom(p.Addr, p.Addr.BitLen()), p.Out, p.Port}
		if !a.rules || len(all) >= most {
			k.Prefix = longest(routed, p.Addr)
		}
		i, ok := groups[k]
		if !ok {
			i = len(all)
			groups[k], all = i, append(all, nil)
		}
		all[i] = append(all[i], p)
	}
	return all
}

// longest is the most specific of all routes, whatever their table: addresses that share it share every other one too.
func longest(routed map[netip.Prefix]bool, a netip.Addr) netip.Prefix {
	for bits := a.BitLen(); bits >= 0; bits-- {
		if p, err := a.Prefix(bits); err == nil && routed[p] {
			return p
		}
	}
	return netip.Prefix{}
}

// upAndAddressed are the interfaces, lo apart, that packets can leave by with an address of their own.
func (s *Surroundings) upAndAddressed() []int {
	return those(s.addrs, func(index int) bool {
		return s.links[index].Flags&(unix.IFF_UP|unix.IFF_LOOPBACK) == unix.IFF_UP
	})
}
