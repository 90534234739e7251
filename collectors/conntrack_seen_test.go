package collectors

import (
	"testing"
	"time"

	"vxlan_exporter/internal/kernel/conntrack"

	"golang.org/x/sys/unix"
)

// seenTally is a scan of one port that found the flows with these hashes, all SNATed.
func seenTally(port uint16, hashes ...uint64) *conntrackTally {
	t := &conntrackTally{targets: []conntrack.Target{{Family: unix.AF_INET, Port: port}}}
	for _, h := range hashes {
		t.nat = append(t.nat, natFlow{hash: h, snat: true})
	}
	return t
}

func TestSeenCountsAFlowOnce(t *testing.T) {
	s := newSeenFlows()
	target := conntrack.Target{Family: unix.AF_INET, Port: 8472}
	for i, step := range []struct {
		tally *conntrackTally
		want  uint64
	}{
		{seenTally(8472, 1, 2), 2},
		{seenTally(8472, 1, 2, 3), 3},
		{seenTally(8472, 2, 3), 3},
		{seenTally(8472, 1, 3), 4}, // 1 had died: it is another
		{seenTally(4789, 9), 4},    // the port is not looked for while its device is recreated
		{seenTally(8472, 1, 3), 4},
		{seenTally(8472), 4},
		{seenTally(8472, 4, 4), 5},
	} {
		s.commit(step.tally, time.Time{})
		if got := s.counts[target].snat; got != step.want {
			t.Errorf("step %d: %d seen, want %d", i, got, step.want)
		}
	}
	for range forgetAfter + 1 {
		s.commit(seenTally(4789), time.Time{})
	}
	if len(s.flows) != 0 {
		t.Errorf("%d flows of a port that is long gone are remembered", len(s.flows))
	}
}

func TestSeenIsBoundedAndCountsNothingTwice(t *testing.T) {
	s := newSeenFlows()
	target := conntrack.Target{Family: unix.AF_INET, Port: 8472}
	all := make([]uint64, maxSeenFlows)
	for i := range all {
		all[i] = uint64(i + 1)
	}
	full := seenTally(8472, all...)
	full.natOverflow = 10 // the tally itself is bounded too
	for scan := uint64(1); scan <= 3; scan++ {
		s.commit(full, time.Time{})
		if c := s.counts[target].snat; c != maxSeenFlows || s.overflow != 10*scan || len(s.flows) != maxSeenFlows {
			t.Errorf("scan %d: %d seen, %d overflow, %d remembered", scan, c, s.overflow, len(s.flows))
		}
	}
	// A thousand die and as many come: there is room for these in the same scan.
	for i := range 1000 {
		full.nat[i].hash += 1 << 40
	}
	full.natOverflow = 0
	s.commit(full, time.Time{})
	if c := s.counts[target].snat; c != maxSeenFlows+1000 || s.overflow != 30 {
		t.Errorf("%d seen, %d overflow", c, s.overflow)
	}
}

func TestFlowHashTellsFlowsApart(t *testing.T) {
	s := newSeenFlows()
	base := conntrack.Flow{ID: 1}
	other := conntrack.Flow{ID: 2}
	zoned := conntrack.Flow{ID: 1, Zone: 1}
	h := map[uint64]bool{}
	for _, f := range []*conntrack.Flow{&base, &other, &zoned, {ID: 1}} {
		h[flowHash(s.seed, f)] = true
	}
	if len(h) != 3 {
		t.Errorf("%d hashes of three flows", len(h))
	}
}
