package collectors

import (
	"cmp"
	"net/netip"
	"slices"
	"sort"
	"sync"
	"time"

	"vxlan_exporter/internal/kernel/capture"
	"vxlan_exporter/internal/node"
)

const (
	// otherPeer stands for all peers past the limit.
	otherPeer = "other"
	// wireSamples is how many bad packets are remembered.
	wireSamples = 16
)

// wireTally counts verdicts. Each packet weighs as many as it stands for.
type wireTally struct {
	maxPeers int

	mu      sync.Mutex
	packets map[node.WireCount]float64 // by the labels, without a number
	bad     map[node.WirePeer]float64
	peers   map[string]bool
	samples []node.BadPacket // the last wireSamples
}

func newWireTally(maxPeers int) *wireTally {
	return &wireTally{
		maxPeers: maxPeers, packets: map[node.WireCount]float64{}, bad: map[node.WirePeer]float64{},
		peers: map[string]bool{},
	}
}

// add counts a packet that was seen on an interface, and reports whether it is bad.
func (t *wireTally) add(iface string, p capture.Packet) bool {
	v := capture.Judge(p.Frame, p.Meta)
	if v.Reason == capture.NotUDP {
		return false // the filter lets none of these pass; of a frame that is cut off before its ports nothing can be said
	}
	direction, peer := node.In, v.Source.Addr()
	if p.Meta.Outgoing {
		direction, peer = node.Out, v.Destination.Addr()
	}
	weight := 1.0
	if p.Ratio > 0 {
		weight = 1 / p.Ratio
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.packets[node.WireCount{Family: node.Family(peer), Direction: direction, Verdict: string(v.Kind)}] += weight
	if v.Kind != capture.Bad {
		return false
	}
	t.bad[node.WirePeer{Direction: direction, Peer: t.peer(peer), Variant: string(v.Variant)}] += weight
	t.samples = append(t.samples[max(0, len(t.samples)-wireSamples+1):], node.BadPacket{
		Time:        time.Now(),
		Interface:   iface,
		Direction:   direction,
		Source:      v.Source,
		Destination: v.Destination,
		Variant:     string(v.Variant),
		Sums: node.Sums{
			Field:            v.Field,
			Correct:          v.Correct,
			SourcePort:       v.Source.Port(),
			SourcePortPreNAT: v.SourcePortPreNAT,
		},
	})
	return true
}

// peer is the label of an address: at most maxPeers ever get one of their own.
func (t *wireTally) peer(a netip.Addr) string {
	name := a.String()
	if !t.peers[name] {
		if len(t.peers) >= t.maxPeers {
			return otherPeer
		}
		t.peers[name] = true
	}
	return name
}

// store puts the counts into w. All verdicts of the families in use are there, as 0 if need be.
func (t *wireTally) store(w *node.Wire, families []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, family := range families {
		for _, direction := range []string{node.In, node.Out} {
			for _, k := range capture.Kinds() {
				// The filter keeps packets without a checksum from us, so they are not counted.
				if k != capture.Zero {
					t.packets[node.WireCount{Family: family, Direction: direction, Verdict: string(k)}] += 0
				}
			}
		}
	}
	for c, n := range t.packets {
		c.Packets = n
		w.Packets = append(w.Packets, c)
	}
	sort.Slice(w.Packets, func(i, j int) bool {
		a, b := &w.Packets[i], &w.Packets[j]
		return cmp.Or(cmp.Compare(a.Family, b.Family), cmp.Compare(a.Direction, b.Direction),
			cmp.Compare(a.Verdict, b.Verdict)) < 0
	})
	for p, n := range t.bad {
		p.Packets = n
		w.Bad = append(w.Bad, p)
	}
	sort.Slice(w.Bad, func(i, j int) bool {
		a, b := &w.Bad[i], &w.Bad[j]
		return cmp.Or(cmp.Compare(a.Direction, b.Direction), cmp.Compare(a.Peer, b.Peer),
			cmp.Compare(a.Variant, b.Variant)) < 0
	})
	w.Samples = slices.Clone(t.samples)
	slices.Reverse(w.Samples)
}
