package collectors

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"slices"
	"sort"
	"time"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/node"
)

const (
	// maxEvidence is how many NATed flows are kept to be shown.
	maxEvidence = 16

	// maxSeenFlows bounds how many living NATed flows are told apart: 24 bytes each, some 3 MB in all. VXLAN picks its
	// source port from a hash of the inner flow, so a node has a few thousand to each of the nodes it talks to at most.
	// Flows beyond the bound are not counted as seen, so no flow is ever counted twice, and are counted as overflow
	// instead.
	maxSeenFlows = 1 << 16

	// forgetAfter is how many scans a flow is remembered whose port is not being looked for: while a device is recreated.
	forgetAfter = 64

	// maxNATSources bounds the addresses that NATed flows are counted for. A node sends from one address per VXLAN device
	// and family.
	maxNATSources = 64

	// sourceMemory is how long an address is remembered after its last NATed flow.
	sourceMemory = time.Hour

	// expirySlack is by how many seconds the end of an untouched flow may seem to move from one scan to the next:
	// CTA_TIMEOUT is rounded down to seconds, and so is the time of the scan.
	expirySlack = 2
)

// conntrackTally counts the flows of one scan. It is used again for the next: nothing is allocated for a flow.
type conntrackTally struct {
	targets     []conntrack.Target // sorted
	seed        maphash.Seed
	counts      []node.ConntrackPort // of the targets
	nat         []natFlow            // at most maxSeenFlows
	natOverflow uint64               // NATed flows beyond these
	evidence    []node.NATFlow
	sources     []sourceCount // at most maxNATSources
	began       time.Time
}

type natFlow struct {
	hash       uint64
	target     int32
	snat, dnat bool
	source     int32  // in sources, from 1 on; 0: none
	expires    uint32 // Unix time; 0: not known
}

// natSource is what source-NATed flows to a port were sent from.
type natSource struct {
	target  conntrack.Target
	address netip.Addr
}

type sourceCount struct {
	natSource
	flows   uint64
	timeout uint32 // the longest of theirs, in seconds
}

// Begin forgets what an attempt that the kernel spoiled has counted.
func (t *conntrackTally) Begin() {
	t.counts = t.counts[:0]
	for _, target := range t.targets {
		t.counts = append(t.counts, node.ConntrackPort{Family: familyLabel(target.Family), Port: target.Port})
	}
	t.nat, t.natOverflow, t.evidence = t.nat[:0], 0, t.evidence[:0]
	t.sources, t.began = t.sources[:0], time.Now()
}

// Visit counts one flow.
func (t *conntrackTally) Visit(f *conntrack.Flow) {
	c := &t.counts[f.Target]
	c.Flows++
	n := natFlow{target: int32(f.Target), snat: f.SNAT(), dnat: f.DNAT()}
	if !n.snat && !n.dnat {
		return
	}
	if n.snat {
		c.SNAT++
		n.source = t.countSource(f)
	}
	if n.dnat {
		c.DNAT++
	}
	if len(t.nat) < maxSeenFlows {
		n.hash = flowHash(t.seed, f)
		if f.Timeout != 0 {
			n.expires = uint32(t.began.Unix()) + f.Timeout //nolint:gosec // wraps in 2106
		}
		t.nat = append(t.nat, n)
	} else {
		t.natOverflow++
	}
	t.keepEvidence(f)
}

// countSource counts a source-NATed flow for the address it was sent from, and returns which that is, from 1 on; 0 when
// there are too many.
func (t *conntrackTally) countSource(f *conntrack.Flow) int32 {
	from := natSource{t.targets[f.Target], f.Source.Addr()}
	at := slices.IndexFunc(t.sources, func(s sourceCount) bool { return s.natSource == from })
	if at < 0 {
		if len(t.sources) == maxNATSources {
			return 0
		}
		at = len(t.sources)
		t.sources = append(t.sources, sourceCount{natSource: from})
	}
	s := &t.sources[at]
	s.flows++
	s.timeout = max(s.timeout, f.Timeout)
	return int32(at) + 1
}

// keepEvidence keeps the lowest flows in the order of compareNATFlows, so that the same table always shows the same
// ones.
func (t *conntrackTally) keepEvidence(f *conntrack.Flow) {
	n := node.NATFlow{
		Source:         f.Source,
		Destination:    f.Destination,
		NATSource:      f.ReplyDestination,
		NATDestination: f.ReplySource,
		Zone:           f.Zone,
	}
	if len(t.evidence) == maxEvidence {
		if compareNATFlows(n, t.evidence[maxEvidence-1]) >= 0 {
			return
		}
		t.evidence = t.evidence[:maxEvidence-1]
	}
	at, _ := slices.BinarySearchFunc(t.evidence, n, compareNATFlows)
	t.evidence = slices.Insert(t.evidence, at, n)
}

func compareNATFlows(a, b node.NATFlow) int {
	return cmp.Or(
		a.Source.Compare(b.Source),
		a.Destination.Compare(b.Destination),
		a.NATSource.Compare(b.NATSource),
		a.NATDestination.Compare(b.NATDestination),
		cmp.Compare(a.Zone, b.Zone),
	)
}

// flowHash identifies a flow by the kernel's id and by its tuples: the id alone is a 32-bit hash, and comes again when
// the same flow is made anew in the same memory (nf_ct_get_id, net/netfilter/nf_conntrack_core.c).
func flowHash(seed maphash.Seed, f *conntrack.Flow) uint64 {
	var b [4 + 2 + 4*(16+2)]byte
	binary.NativeEndian.PutUint32(b[0:], f.ID)
	binary.NativeEndian.PutUint16(b[4:], f.Zone)
	p := b[6:]
	for _, end := range [...]netip.AddrPort{f.Source, f.Destination, f.ReplySource, f.ReplyDestination} {
		if end.IsValid() {
			a := end.Addr().As16()
			copy(p, a[:])
			binary.BigEndian.PutUint16(p[16:], end.Port())
		}
		p = p[18:]
	}
	return maphash.Bytes(seed, b[:])
}

// ports is the result of the scan, with the flows seen so far.
func (t *conntrackTally) ports(seen *seenFlows) []node.ConntrackPort {
	ports := slices.Clone(t.counts)
	for i, target := range t.targets {
		ports[i].SeenSNAT, ports[i].SeenDNAT = seen.counts[target].snat, seen.counts[target].dnat
	}
	return ports
}

// seenFlows counts distinct NATed flows. It remembers those of the last scan: a dump misses no living flow, so one that
// was not in it has died, and when an equal one comes it is another.
type seenFlows struct {
	seed     maphash.Seed
	scan     uint32
	flows    map[uint64]seenFlow // by hash of id and tuples: two of 65,536 flows collide once in ten billion scans
	counts   map[conntrack.Target]seenCount
	sources  map[natSource]*node.NATSource
	at       time.Time // when the last complete scan ended
	overflow uint64    // flows that found no room, in all scans
}

type seenFlow struct {
	scan    uint32 // the last one that had it
	expires uint32 // Unix time at which it ends if no packet comes
	family  uint8
	port    uint16
}

type seenCount struct{ snat, dnat uint64 }

func newSeenFlows() *seenFlows {
	return &seenFlows{
		seed:    maphash.MakeSeed(),
		flows:   make(map[uint64]seenFlow),
		counts:  make(map[conntrack.Target]seenCount),
		sources: make(map[natSource]*node.NATSource),
	}
}

// commit takes the NATed flows of a complete scan that ended at now.
func (s *seenFlows) commit(t *conntrackTally, now time.Time) {
	s.scan++
	sources := s.commitSources(t, now)
	known := 0
	for _, n := range t.nat {
		if f, ok := s.flows[n.hash]; ok {
			if f.expires != 0 && n.expires > f.expires+expirySlack {
				sources[n.source].Used = s.at
			}
			f.scan, f.expires = s.scan, n.expires
			s.flows[n.hash] = f
			known++
		}
	}
	if len(s.flows) > known {
		for h, f := range s.flows {
			_, looked := slices.BinarySearchFunc(t.targets, conntrack.Target{Family: f.family, Port: f.port}, compareTargets)
			if f.scan != s.scan && (looked || s.scan-f.scan > forgetAfter) {
				delete(s.flows, h)
			}
		}
	}
	for _, n := range t.nat {
		if _, ok := s.flows[n.hash]; ok {
			continue
		}
		sources[n.source].Born, sources[n.source].Used = s.at, s.at
		if len(s.flows) >= maxSeenFlows {
			s.overflow++
			continue
		}
		target := t.targets[n.target]
		s.flows[n.hash] = seenFlow{scan: s.scan, expires: n.expires, family: target.Family, port: target.Port}
		c := s.counts[target]
		if n.snat {
			c.snat++
		}
		if n.dnat {
			c.dnat++
		}
		s.counts[target] = c
	}
	s.overflow += t.natOverflow
	s.at = now
}

// commitSources takes the counts of a complete scan and forgets addresses that have had no flow for long. It returns
// the remembered addresses in the order of the tally, from 1 on; the first stands for those that are not remembered.
func (s *seenFlows) commitSources(t *conntrackTally, now time.Time) []*node.NATSource {
	for k, r := range s.sources {
		if r.Flows, r.Remaining = 0, 0; now.Sub(r.Seen) > sourceMemory {
			delete(s.sources, k)
		}
	}
	list := make([]*node.NATSource, 1, 1+len(t.sources))
	list[0] = &node.NATSource{}
	for _, c := range t.sources {
		r := s.sources[c.natSource]
		if r == nil {
			r = &node.NATSource{Family: familyLabel(c.target.Family), Port: c.target.Port, Address: c.address}
			if len(s.sources) < maxNATSources {
				s.sources[c.natSource] = r
			}
		}
		r.Flows, r.Remaining, r.Seen = c.flows, time.Duration(c.timeout)*time.Second, now
		list = append(list, r)
	}
	return list
}

// natSources are the remembered addresses, in order.
func (s *seenFlows) natSources() []node.NATSource {
	var list []node.NATSource
	for _, r := range s.sources {
		list = append(list, *r)
	}
	sort.Slice(list, func(i, j int) bool {
		a, b := &list[i], &list[j]
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Port, b.Port), a.Address.Compare(b.Address)) < 0
	})
	return list
}
