package collectors

import (
	"hash/maphash"
	"slices"
	"time"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/node"
)

const (
	// maxSeenFlows bounds how many living NATed flows are told apart: 24 bytes each, some 3 MB in all. VXLAN picks its
	// source port from a hash of the inner flow, so a node has a few thousand to each of the nodes it talks to at most.
	// Flows beyond the bound are not counted as seen, so no flow is ever counted twice, and are counted as overflow
	// instead.
	maxSeenFlows = 1 << 16

	// forgetAfter is how many scans a flow is remembered whose port is not being looked for: while a device is recreated.
	forgetAfter = 64
)

// seenFlows counts distinct NATed flows. It remembers those of the last scan: a dump misses no living flow, so one that
// was not in it has died, and when an equal one comes it is another.
type seenFlows struct {
	seed     maphash.Seed
	scan     uint32
	flows    map[uint64]seenFlow // by hash of id and tuples: two of 65,536 flows collide once in ten billion scans
	counts   map[conntrack.Target]*seenCount
	sources  map[sourceKey]*node.NATSource
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
		seed:   maphash.MakeSeed(),
		flows:  make(map[uint64]seenFlow),
		counts: make(map[conntrack.Target]*seenCount),

		sources: make(map[sourceKey]*node.NATSource),
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
				sources.used(n, s.at)
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
		sources.born(n, s.at)
		target := t.targets[n.target]
		if len(s.flows) >= maxSeenFlows {
			s.overflow++
			continue
		}
		s.flows[n.hash] = seenFlow{scan: s.scan, expires: n.expires, family: target.Family, port: target.Port}
		c := s.count(target)
		if n.snat {
			c.snat++
		}
		if n.dnat {
			c.dnat++
		}
	}
	s.overflow += t.natOverflow
	s.at = now
}

func (s *seenFlows) count(t conntrack.Target) *seenCount {
	c := s.counts[t]
	if c == nil {
		c = &seenCount{}
		s.counts[t] = c
	}
	return c
}
