package diagnosis

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

// portKey names the flows to one VXLAN port over one underlay family.
type portKey struct {
	family string
	port   uint16
}

func (k portKey) String() string { return k.family + " port " + strconv.Itoa(int(k.port)) }

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

// port is what is known of one VXLAN port over one underlay family. The original source of a flow is the address that
// its device sends from; a device of which that is not known may have sent any flow that no other device has.
type port struct {
	scanned bool // tracked is what conntrack has
	tracked node.ConntrackPort
	natted  natted                        // of all sources
	loose   natted                        // of sources that no device is known to send from
	listed  uint64                        // NATed flows of which the source is known
	sources map[netip.Addr]natted         // not valid: of all that are not listed
	senders map[netip.Addr][]string       // names of the devices that send from an address; not valid: from one not known
	devices []string                      // names of all whose outer packets pass this namespace
	rules   map[netip.Addr]natrules.Outer // by the address that devices name; not valid: of those that name none
}

// ports sorts what was observed by port: a saved observation may hold a hundred thousand of anything, so nothing is
// searched once per device.
type ports map[portKey]*port

func (p ports) at(k portKey) *port {
	if p[k] == nil {
		p[k] = &port{senders: map[netip.Addr][]string{}, rules: map[netip.Addr]natrules.Outer{}}
	}
	return p[k]
}

func sortPorts(n *node.Node) ports {
	all := ports{}
	for _, d := range n.Devices {
		if d.LinkNetns != nil {
			continue
		}
		for _, f := range underlayFamilies(d) {
			p := all.at(portKey{f, d.Port})
			p.devices = append(p.devices, d.Name)
			a := sentFrom(d, f)
			p.senders[a] = append(p.senders[a], d.Name)
		}
	}
	for _, s := range n.Conntrack.Sources {
		p := all.at(portKey{s.Family, s.Port})
		p.listed += s.Flows
		p.add(s.Address.Unmap(), natted{s.Flows, s.Remaining, s.Seen, s.Born, s.Used, nil})
	}
	for _, f := range n.Conntrack.NATFlows {
		all.at(portKey{node.Family(f.Destination.Addr()), f.Destination.Port()}).
			add(f.Source.Addr().Unmap(), natted{quotes: []Evidence{{"NATed flow", f.String()}}})
	}
	for _, c := range n.Conntrack.Ports {
		p := all.at(portKey{c.Family, c.Port})
		p.scanned, p.tracked = true, c
		if c.SNAT > p.listed { // of more addresses than are listed, or of an observation that lists none
			p.add(netip.Addr{}, natted{flows: c.SNAT - p.listed})
		}
	}
	for _, o := range n.NATRules.Outer {
		all.at(portKey{o.Family, o.Port}).rules[o.Local.Unmap()] = o
	}
	return all
}

func (p *port) add(source netip.Addr, n natted) {
	if p.sources == nil {
		p.sources = map[netip.Addr]natted{}
	}
	p.natted = p.natted.plus(n)
	p.sources[source] = p.sources[source].plus(n)
	if !source.IsValid() || len(p.senders[source]) == 0 {
		p.loose = p.loose.plus(n)
	}
}

// sentFrom is the source address of a device's outer packets, not valid where it is not known. An external device takes
// it from each packet.
func sentFrom(d node.Device, family string) netip.Addr {
	if a := d.Local.Unmap(); !d.IsExternal() && a.IsValid() && !a.IsUnspecified() && node.Family(a) == family {
		return a
	}
	return netip.Addr{}
}

// of are the NATed flows that a device can have sent from an address. Those of sources that are not listed can be
// anybody's.
func (p *port) of(from netip.Addr) natted {
	if !from.IsValid() {
		return p.loose
	}
	return p.sources[netip.Addr{}].plus(p.sources[from])
}

// ofNobody are the NATed flows that no device here is charged with.
func (p *port) ofNobody() natted {
	loose := p.loose
	if len(p.devices) > 0 { // what is not listed is charged to each of them
		loose.flows -= p.sources[netip.Addr{}].flows
	}
	return loose
}

// outer is what the rules do to the outer packets of devices with a local address.
func (p *port) outer(local netip.Addr) (natrules.Outer, bool) {
	if o, ok := p.rules[local.Unmap()]; ok {
		return o, true
	}
	o, ok := p.rules[netip.Addr{}]
	return o, ok
}

// flowText says what conntrack has of a port, and of its NATed flows those of one device. Zero NATed flows, no tracked
// flow, and "could not look" are different answers.
func (j *judge) flowText(k portKey, natted uint64) string {
	p := j.ports.at(k)
	var s string
	switch {
	case j.noConntrack():
		return "no connection tracking on this node"
	case !p.scanned:
		return "flows not seen (" + j.because(readConntrack) + ")"
	case natted > 0:
		s = fmt.Sprintf("%d of %s with a rewritten source", natted, count(p.tracked.Flows, "flow"))
	case p.tracked.Flows == 0:
		s = "no flow tracked"
	case p.tracked.SNAT > 0:
		s = count(p.tracked.Flows, "flow") + " tracked, none of the device's NATed"
	default:
		s = count(p.tracked.Flows, "flow") + " tracked, none NATed"
	}
	if j.now.Conntrack.Scan != nil && j.now.Conntrack.Scan.Stale {
		s += ", as of an earlier scan"
	}
	return s
}

// flowEvidence is what conntrack has of a port, with quotes of NATed flows.
func (j *judge) flowEvidence(k portKey, quotes []Evidence) []Evidence {
	e := Evidence{"conntrack flows to " + k.String(), j.flowText(k, 0)}
	if p := j.ports.at(k); p.scanned {
		t := p.tracked
		e.Value = fmt.Sprintf("%d tracked, %d source-NATed, %d destination-NATed", t.Flows, t.SNAT, t.DNAT)
	}
	return append([]Evidence{e}, quotes...)
}

// looseFlows looks at NATed flows from the port's side: those no device here accounts for, and rewritten destinations.
func (j *judge) looseFlows() {
	away := j.movedAway()
	for _, t := range j.now.Conntrack.Ports {
		k := portKey{t.Family, t.Port}
		p := j.ports.at(k)
		f := Finding{Severity: Warning, Port: t.Port, Family: t.Family, Evidence: j.flowEvidence(k, p.natted.quotes)}
		if p.ofNobody().flows > 0 && len(p.senders[netip.Addr{}]) == 0 &&
			!slices.Contains(away, k) && j.succeeded(readDevices) {
			j.raise(Unknown)
			f.Code, f.Summary = CodeFlowsNoDevice, "Flows to "+k.String()+" are NATed, and no VXLAN device here sends them: "+
				"they are forwarded, or the device was moved to another network namespace. Whether their checksums suffer is "+
				"decided by the device that sends them."
			j.add(f)
		}
		if t.DNAT > 0 {
			f.Code, f.Summary = CodeDNAT, count(t.DNAT, "flow")+" to "+k.String()+" have their destination rewritten. Tunnel "+
				"packets are not meant to be: a DNAT rule, a host port or an IPVS service takes this port."
			j.add(f)
		}
	}
}
