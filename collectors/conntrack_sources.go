package collectors

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
	"time"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/node"
)

const (
	// maxNATSources bounds the addresses that NATed flows are counted for. A node sends from one address per VXLAN device
	// and family.
	maxNATSources = 64

	// sourceMemory is how long an address is remembered after its last NATed flow.
	sourceMemory = time.Hour

	// expirySlack is by how many seconds the end of an untouched flow may seem to move from one scan to the next:
	// CTA_TIMEOUT is rounded down to seconds, and so is the time of the scan.
	expirySlack = 2
)

type sourceKey struct {
	target  conntrack.Target
	address netip.Addr
}

// tallySource counts the source-NATed flows of one address in one scan.
type tallySource struct {
	target  int
	address netip.Addr
	flows   uint64
	timeout uint32 // the longest of theirs
}

// countSource counts a source-NATed flow for the address it was sent from, and returns which that is, from 1 on; 0 when
// there are too many.
func (t *conntrackTally) countSource(f *conntrack.Flow) int32 {
	address := f.Source.Addr()
	at := slices.IndexFunc(t.sources, func(s tallySource) bool { return s.target == f.Target && s.address == address })
	if at < 0 {
		if len(t.sources) == maxNATSources {
			return 0
		}
		at = len(t.sources)
		t.sources = append(t.sources, tallySource{target: f.Target, address: address})
	}
	s := &t.sources[at]
	s.flows++
	s.timeout = max(s.timeout, f.Timeout)
	return int32(at) + 1
}

// scanSources are the remembered addresses in the order of the tally; nil where there was no room for one.
type scanSources []*node.NATSource

// used takes note that a packet met a flow after the scan at.
func (s scanSources) used(n natFlow, at time.Time) {
	if r := s.of(n); r != nil {
		r.Used = at
	}
}

// born takes note that a flow was made after the scan at.
func (s scanSources) born(n natFlow, at time.Time) {
	if r := s.of(n); r != nil {
		r.Born, r.Used = at, at
	}
}

func (s scanSources) of(n natFlow) *node.NATSource {
	if n.source == 0 {
		return nil
	}
	return s[n.source-1]
}

// commitSources takes the counts of a complete scan and forgets addresses that have had no flow for long.
func (s *seenFlows) commitSources(t *conntrackTally, now time.Time) scanSources {
	for k, r := range s.sources {
		if r.Flows, r.Remaining = 0, 0; now.Sub(r.Seen) > sourceMemory {
			delete(s.sources, k)
		}
	}
	list := make(scanSources, len(t.sources))
	for i, c := range t.sources {
		target := t.targets[c.target]
		k := sourceKey{target, c.address}
		r := s.sources[k]
		if r == nil && len(s.sources) < maxNATSources {
			r = &node.NATSource{Family: familyLabel(target.Family), Port: target.Port, Address: c.address}
			s.sources[k] = r
		}
		if r != nil {
			r.Flows, r.Remaining, r.Seen = c.flows, time.Duration(c.timeout)*time.Second, now
		}
		list[i] = r
	}
	return list
}

// natSources are the remembered addresses in the node's form, in order.
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
