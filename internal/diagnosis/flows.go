package diagnosis

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"vxlan_exporter/internal/node"
)

// sourceKey names the flows to one port that are sent from one address.
type sourceKey struct {
	portKey
	address netip.Addr
}

// natted is what is known of source-NATed flows: those of a device, or a part of a port's.
type natted struct {
	flows            uint64 // there now
	remaining        time.Duration
	seen, born, used time.Time // see node.NATSource
	quotes           []Evidence
}

func (n natted) plus(m natted) natted {
	const most = 3
	quotes := slices.Concat(n.quotes, m.quotes)
	return natted{
		n.flows + m.flows, max(n.remaining, m.remaining), later(n.seen, m.seen), later(n.born, m.born), later(n.used, m.used),
		quotes[:min(most, len(quotes))],
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// ports sorts what conntrack has of the VXLAN ports, and the devices that use them. The original source of a flow is
// the address that its device sends from; a device of which that is not known may have sent any flow that no other
// device has.
type ports struct {
	flows    map[portKey]node.ConntrackPort
	natted   map[portKey]natted // of all sources
	sources  map[sourceKey]natted
	loose    map[portKey]natted     // of sources that no device is known to send from
	senders  map[sourceKey][]string // names of the devices that send from an address
	anywhere map[portKey][]string   // names of the devices of which the address is not known
	devices  map[portKey][]string   // names of all whose outer packets pass this namespace
}

func sortPorts(n *node.Node) ports {
	p := ports{
		map[portKey]node.ConntrackPort{},
		map[portKey]natted{},
		map[sourceKey]natted{},
		map[portKey]natted{},
		map[sourceKey][]string{},
		map[portKey][]string{},
		map[portKey][]string{},
	}
	for _, d := range n.Devices {
		if d.LinkNetns != nil {
			continue
		}
		for _, f := range underlayFamilies(d) {
			k := portKey{f, d.Port}
			p.devices[k] = append(p.devices[k], d.Name)
			from := sentFrom(d, f)
			if len(from) == 0 {
				p.anywhere[k] = append(p.anywhere[k], d.Name)
			}
			for _, a := range from {
				p.senders[sourceKey{k, a}] = append(p.senders[sourceKey{k, a}], d.Name)
			}
		}
	}
	listed := map[portKey]uint64{}
	for _, s := range n.Conntrack.Sources {
		k := portKey{s.Family, s.Port}
		listed[k] += s.Flows
		p.add(sourceKey{k, s.Address.Unmap()}, natted{
			flows: s.Flows, remaining: s.Remaining, seen: s.Seen, born: s.Born,
			used: s.Used,
		})
	}
	for _, f := range n.Conntrack.NATFlows {
		k := portKey{node.Family(f.Destination.Addr()), f.Destination.Port()}
		text := fmt.Sprintf("%s to %s left as %s to %s", f.Source, f.Destination, f.NATSource, f.NATDestination)
		p.add(sourceKey{k, f.Source.Addr().Unmap()}, natted{quotes: []Evidence{{"NATed flow", text}}})
	}
	for _, c := range n.Conntrack.Ports {
		k := portKey{c.Family, c.Port}
		p.flows[k] = c
		if c.SNAT > listed[k] { // of more addresses than are listed, or of an observation that lists none
			p.add(sourceKey{k, netip.Addr{}}, natted{flows: c.SNAT - listed[k]})
		}
	}
	return p
}

func (p *ports) add(k sourceKey, n natted) {
	p.natted[k.portKey] = p.natted[k.portKey].plus(n)
	p.sources[k] = p.sources[k].plus(n)
	if len(p.senders[k]) == 0 {
		p.loose[k.portKey] = p.loose[k.portKey].plus(n)
	}
}

// sentFrom are the addresses that a device's outer packets have as source, as far as they are known. An external device
// takes them from each packet.
func sentFrom(d node.Device, family string) []netip.Addr {
	if a := d.Local.Unmap(); !d.IsExternal() && a.IsValid() && !a.IsUnspecified() && a.Is4() == (family == node.IPv4) {
		return []netip.Addr{a}
	}
	return nil
}

// of are the NATed flows that d can have sent. Those of sources that are not listed can be anybody's.
func (p *ports) of(d node.Device, k portKey) natted {
	from := sentFrom(d, k.family)
	if len(from) == 0 {
		return p.loose[k]
	}
	n := p.sources[sourceKey{k, netip.Addr{}}]
	for _, a := range from {
		n = n.plus(p.sources[sourceKey{k, a}])
	}
	return n
}

// looseOf are the NATed flows that no device here is charged with.
func (j *judge) looseOf(k portKey) natted {
	loose := j.ports.loose[k]
	if len(j.ports.devices[k]) > 0 { // what is not listed is charged to each of them
		loose.flows -= j.ports.sources[sourceKey{k, netip.Addr{}}].flows
	}
	return loose
}

// sharing names the devices whose flows cannot be told from d's: those on its port that send from the same address.
func (p *ports) sharing(d node.Device, k portKey) []string {
	from := sentFrom(d, k.family)
	if len(from) == 0 {
		return p.anywhere[k]
	}
	return p.senders[sourceKey{k, from[0]}]
}

// shared says that a device's flows cannot be told from those of others.
func (j *judge) shared(v verdict) string {
	if n := len(j.ports.sharing(v.device, v.key)); n > 1 {
		return fmt.Sprintf(" (%d devices use this port, and conntrack does not tell whose flows these are)", n)
	}
	return ""
}

// flowText says what conntrack has of one device's port. Zero NATed flows, no tracked flow, and "could not look" are
// different answers.
func (j *judge) flowText(v verdict) string {
	p, ok := j.ports.flows[v.key]
	var s string
	switch {
	case j.noConntrack():
		return "no connection tracking on this node"
	case !ok:
		return "flows not seen (" + j.because(readConntrack) + ")"
	case v.natted.flows > 0:
		s = fmt.Sprintf("%d of %s with a rewritten source", v.natted.flows, count(p.Flows, "flow"))
	case p.Flows == 0:
		s = "no flow tracked"
	case p.SNAT > 0:
		s = count(p.Flows, "flow") + " tracked, none of the device's NATed"
	default:
		s = count(p.Flows, "flow") + " tracked, none NATed"
	}
	if j.now.Conntrack.Scan != nil && j.now.Conntrack.Scan.Stale {
		s += ", as of an earlier scan"
	}
	return s
}

func (j *judge) flowEvidence(key portKey) Evidence {
	e := Evidence{Name: fmt.Sprintf("conntrack flows to %s port %d", key.family, key.port)}
	if p, ok := j.ports.flows[key]; ok {
		e.Value = fmt.Sprintf("%d tracked, %d source-NATed, %d destination-NATed", p.Flows, p.SNAT, p.DNAT)
	} else {
		e.Value = j.flowText(verdict{key: key})
	}
	return e
}

// looseFlows looks at NATed flows from the port's side: those no device here accounts for, and rewritten destinations.
func (j *judge) looseFlows() {
	away := j.movedAway()
	for _, p := range j.now.Conntrack.Ports {
		key := portKey{p.Family, p.Port}
		port := fmt.Sprintf("%s port %d", p.Family, p.Port)
		evidence := append([]Evidence{j.flowEvidence(key)}, j.ports.natted[key].quotes...)
		loose := j.looseOf(key)
		if loose.flows > 0 && len(j.ports.anywhere[key]) == 0 && !slices.Contains(away, key) && j.succeeded(readDevices) {
			j.raise(Unknown)
			j.add(Finding{
				Code: CodeFlowsNoDevice, Severity: Warning, Port: p.Port, Family: p.Family, Evidence: evidence,
				Summary: "Flows to " + port + " are NATed, and no VXLAN device here sends them: they are forwarded, or the " +
					"device was moved to another network namespace. Whether their checksums suffer is decided by the device that " +
					"sends them.",
			})
		}
		if p.DNAT > 0 {
			j.add(Finding{
				Code: CodeDNAT, Severity: Warning, Port: p.Port, Family: p.Family, Evidence: evidence,
				Summary: fmt.Sprintf("%s to %s have their destination rewritten. Tunnel packets are not meant to be: a DNAT "+
					"rule, a host port or an IPVS service takes this port.",
					count(p.DNAT, "flow"), port),
			})
		}
	}
}
