package natrules

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/rtnl"
)

// maxSenders bounds the interfaces that are looked at each by itself.
const maxSenders = 32

// entrance is an interface by which packets leave for a tunnel, and what is routed into it.
type entrance struct {
	index int
	dst   []netip.Prefix
}

// senders are the node itself and what is behind its local interfaces, as far as their packets get into a tunnel.
func (a *around) senders(ipv6 bool, mark uint32) []Sender {
	into := a.entrances(ipv6)
	if a.routes == nil { // who sends is not known either
		return []Sender{{}, {In: []Interface{{}}}}
	}
	if into == nil {
		var own []netip.Prefix
		for _, s := range a.nodeSources(ipv6, nil) {
			own = append(own, s.Prefix)
		}
		return []Sender{{Sources: own}} // what enters the devices, no route tells: it can be anything
	}
	var all []Sender
	classes := append([]neighbors{{sources: a.nodeSources(ipv6, into)}}, a.behind(ipv6, into)...)
	for _, e := range into {
		for _, c := range classes {
			if from := a.reaching(c.sources, e, mark); len(from) > 0 {
				all = append(all, Sender{In: c.in, Sources: from, Out: a.interfaceOf(e.index), Destinations: e.dst})
			}
		}
	}
	return all
}

// entrances are the interfaces that lead into the tunnels: the devices, the bridges that they are ports of, and VLANs
// on those. Where none of them has a route, nothing gets in; but into an external device, or one that is a part of
// something, what the kernel's tables do not show can bring packets, and what has routes that nobody else explains
// leads there. nil: not known.
func (a *around) entrances(ipv6 bool) []entrance {
	all := []entrance{}
	every := func(ifroute) bool { return true }
	for _, t := range a.tunnels {
		over := a.above(t.Index)
		own, others := a.routedInto(over, ipv6, every), a.routedInto(over, !ipv6, every)
		unseen := a.routes == nil || t.External || a.links[t.Index].Master != 0
		if len(own) == 0 && (len(others) > 0 || !unseen) {
			continue // it carries the other family alone, or nothing
		}
		if len(own) == 0 {
			own = a.routedInto(a.gateways(), ipv6, func(r ifroute) bool { return r.static && r.Bits() > 0 && !r.IsSingleIP() })
		}
		if len(own) == 0 {
			return nil
		}
		for _, e := range own {
			if !isEntrance(all, e.index) {
				all = append(all, e)
			}
		}
	}
	return all
}

func isEntrance(into []entrance, index int) bool {
	return slices.ContainsFunc(into, func(e entrance) bool { return e.index == index })
}

// source is what packets come from, and the interface that they come in by; 0: this node sends them.
type source struct {
	netip.Prefix
	in int
}

func (a *around) routedInto(interfaces []int, ipv6 bool, counts func(r ifroute) bool) []entrance {
	var all []entrance
	for _, index := range interfaces {
		e := entrance{index: index}
		for _, r := range a.routes[index] {
			if r.Addr().Is6() == ipv6 && counts(r) {
				e.dst = append(e.dst, r.Prefix)
			}
		}
		if len(e.dst) > 0 {
			all = append(all, e)
		}
	}
	return all
}

// above are the device, what it is a part of, and what is made on those.
func (a *around) above(index int) []int {
	all := []int{index}
	for i := 0; i < len(all) && len(all) < maxSenders; i++ {
		l := a.links[all[i]]
		all = append(all, those(a.links, func(up int) bool {
			over := up == l.Master && !l.InVRF || a.links[up].Lower == all[i] && !a.isTunnel(up)
			return over && !slices.Contains(all, up)
		})...)
	}
	return all
}

// gateways are the interfaces that are neither the way out of outer packets nor lo.
func (a *around) gateways() []int {
	return those(a.routes, func(index int) bool {
		return a.links[index].Flags&unix.IFF_LOOPBACK == 0 && !a.leads(index)
	})
}

// leads reports whether an interface leads out of the node: it has a default route, is a NIC or made of one, or outer
// packets leave by it.
func (a *around) leads(index int) bool {
	if a.outs == nil {
		a.outs = map[int]bool{}
		for _, t := range a.tunnels {
			a.outs[t.Link] = true
			for _, w := range slices.Concat(a.waysOf(t, false, 0), a.waysOf(t, true, 0)) {
				a.outs[w.Out.Index] = true
			}
		}
	}
	isDefault := func(r ifroute) bool { return r.Bits() == 0 }
	return a.outs[index] || a.isNIC(index, 0) || slices.ContainsFunc(a.routes[index], isDefault)
}

func (a *around) isNIC(index, depth int) bool {
	l := a.links[index]
	if l.Bus || depth < 4 && l.Lower != 0 && a.isNIC(l.Lower, depth+1) {
		return true
	}
	return depth < 4 && slices.ContainsFunc(a.ports(index), func(port int) bool { return a.isNIC(port, depth+1) })
}

// ports are the interfaces that belong to another, VXLAN devices apart.
func (a *around) ports(index int) []int {
	return those(a.links, func(port int) bool {
		l := a.links[port]
		return l.Master == index && !l.InVRF && !a.isTunnel(port) && l.Flags&unix.IFF_LOWER_UP != 0
	})
}

// local reports whether packets that come in by an interface can be unfinished: somebody on this node is behind it.
// What comes from outside has crossed a wire, which nothing does unfinished.
func (a *around) local(index int, into []entrance) bool {
	l := a.links[index]
	const up = unix.IFF_UP | unix.IFF_LOWER_UP
	switch {
	case l.Flags&up != up, l.Flags&(unix.IFF_LOOPBACK|unix.IFF_NOARP|unix.IFF_POINTOPOINT) != 0, a.isTunnel(index),
		l.Kind == "bridge" && len(a.ports(index)) == 0:
		return false
	case isEntrance(into, index):
		// A bridge with ports besides the tunnel, or a gateway that others use as well.
		over := func(t Tunnel) bool { return slices.Contains(a.above(t.Index), index) }
		return len(a.ports(index)) > 0 || !slices.ContainsFunc(a.tunnels, over)
	case a.leads(index):
		return len(a.ports(index)) > 1 // a bridge with ports besides the NIC
	default:
		return true
	}
}

// neighbors are senders behind local interfaces, or the node itself.
type neighbors struct {
	in      []Interface // nil: the node
	sources []source
}

// behind are the classes of senders behind local interfaces. Interfaces with routes to single addresses only are one
// class.
func (a *around) behind(ipv6 bool, into []entrance) []neighbors {
	var all []neighbors
	var single neighbors
	for _, index := range those(a.routes, func(index int) bool { return a.local(index, into) }) {
		if ipv6 && a.forwards6 != nil && !a.forwards6(a.links[index].Name) {
			continue
		}
		n := neighbors{in: []Interface{a.interfaceOf(index)}}
		hosts := true
		for _, r := range a.routes[index] {
			if r.Addr().Is6() != ipv6 || r.Bits() == 0 || r.static && isEntrance(into, index) {
				continue
			}
			n.sources = append(n.sources, source{r.Prefix, index})
			hosts = hosts && r.IsSingleIP()
		}
		switch {
		case len(n.sources) == 0:
		case hosts || len(all) >= maxSenders:
			single.in, single.sources = append(single.in, n.in...), append(single.sources, n.sources...)
		default:
			all = append(all, n)
		}
	}
	if len(single.in) > 0 {
		all = append(all, single)
	}
	return all
}

// nodeSources are the addresses that processes of the node send from: not those that it has for somebody behind a local
// interface, nor those of interfaces that are down.
func (a *around) nodeSources(ipv6 bool, into []entrance) []source {
	var all []source
	for _, index := range those(a.addrs, func(index int) bool {
		l := a.links[index]
		return l.Flags&unix.IFF_UP != 0 && l.Flags&(unix.IFF_LOWER_UP|unix.IFF_LOOPBACK) != 0 &&
			(l.Kind != "bridge" || len(a.ports(index)) > 0) && (!a.local(index, into) || a.leads(index)) &&
			!isEntrance(into, index)
	}) {
		for _, i := range a.addrs[index] {
			if addr := i.Addr; addr.Is6() == ipv6 && !addr.IsLinkLocalUnicast() && addr != netip.IPv6Loopback() {
				all = append(all, source{netip.PrefixFrom(addr, addr.BitLen()), 0})
			}
		}
	}
	return all
}

// reaching are those of the sources whose packets go by an entrance.
func (a *around) reaching(sources []source, e entrance, mark uint32) []netip.Prefix {
	const most = 32 // questions
	var all []netip.Prefix
	var same *bool // what holds for one holds for all, where no policy rule asks for more
	for i, s := range sources {
		loopback := s.Addr().IsLoopback()
		reaches := same != nil && *same
		if same == nil || loopback || a.rules && i < most {
			reaches = a.reaches(s, e, mark)
		}
		if reaches {
			all = append(all, s.Prefix)
		}
		if !loopback && same == nil {
			same = &reaches
		}
	}
	return all
}

// reaches asks for a few of what is routed into the entrance.
func (a *around) reaches(s source, e entrance, mark uint32) bool {
	from := s.Addr()
	for n := 0; n < 8 && !s.IsSingleIP() && (n == 0 || a.isOwn(from)) && s.Contains(from.Next()); n++ {
		from = from.Next()
	}
	const most = 4
	step := max(1, len(e.dst)/most)
	for i := 0; i < len(e.dst); i += step {
		to := e.dst[i].Addr()
		if !e.dst[i].IsSingleIP() {
			to = to.Next()
		}
		r, told, err := a.ask(rtnl.RouteQuery{Destination: to, Source: from, In: s.in, Mark: mark})
		if !told || err == nil && r.Index == e.index {
			return true
		}
	}
	return false
}

func (a *around) isOwn(addr netip.Addr) bool {
	return slices.Contains(a.own(), addr)
}
