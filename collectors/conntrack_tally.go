package collectors

import (
	"cmp"
	"encoding/binary"
	"hash/maphash"
	"net/netip"
	"slices"
	"time"

	"vxlan_exporter/internal/kernel/conntrack"
	"vxlan_exporter/internal/node"
)

// maxEvidence is how many NATed flows are kept to be shown.
const maxEvidence = 16

// conntrackTally counts the flows of one scan. It is used again for the next: nothing is allocated for a flow.
type conntrackTally struct {
	targets     []conntrack.Target // sorted
	seed        maphash.Seed
	counts      []targetCount
	nat         []natFlow // at most maxSeenFlows
	natOverflow uint64    // NATed flows beyond these
	evidence    []node.NATFlow
	sources     []tallySource // at most maxNATSources
	began       time.Time
}

type targetCount struct{ flows, snat, dnat uint64 }

type natFlow struct {
	hash       uint64
	target     int32
	snat, dnat bool
	source     int32  // in sources, from 1 on; 0: none
	expires    uint32 // Unix time; 0: not known
}

// Begin forgets what an attempt that the kernel spoiled has counted.
func (t *conntrackTally) Begin() {
	t.counts = slices.Grow(t.counts[:0], len(t.targets))[:len(t.targets)]
	clear(t.counts)
	t.nat, t.natOverflow, t.evidence = t.nat[:0], 0, t.evidence[:0]
	t.sources, t.began = t.sources[:0], time.Now()
}

// Visit counts one flow.
func (t *conntrackTally) Visit(f *conntrack.Flow) {
	c := &t.counts[f.Target]
	c.flows++
	snat, dnat := f.SNAT(), f.DNAT()
	if !snat && !dnat {
		return
	}
	source := int32(0)
	if snat {
		c.snat++
		source = t.countSource(f)
	}
	if dnat {
		c.dnat++
	}
	if len(t.nat) < maxSeenFlows {
		t.nat = append(t.nat, natFlow{
			hash: flowHash(t.seed, f), target: int32(f.Target), snat: snat, dnat: dnat, source: source,
			expires: t.expiry(f),
		})
	} else {
		t.natOverflow++
	}
	t.keepEvidence(f)
}

// expiry is when the kernel forgets a flow if no packet comes, in Unix time; 0 where it does not say.
func (t *conntrackTally) expiry(f *conntrack.Flow) uint32 {
	if f.Timeout == 0 {
		return 0
	}
	return uint32(t.began.Unix()) + f.Timeout //nolint:gosec // wraps in 2106
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

// ports is the result of the scan in the node's form, with the flows seen so far.
func (t *conntrackTally) ports(seen *seenFlows) []node.ConntrackPort {
	ports := make([]node.ConntrackPort, len(t.targets))
	for i, target := range t.targets {
		n, s := t.counts[i], seen.count(target)
		ports[i] = node.ConntrackPort{
			Family:   familyLabel(target.Family),
			Port:     target.Port,
			Flows:    n.flows,
			SNAT:     n.snat,
			DNAT:     n.dnat,
			SeenSNAT: s.snat,
			SeenDNAT: s.dnat,
		}
	}
	return ports
}
