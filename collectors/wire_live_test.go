package collectors_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// wireNode is the probe of one node of a rig.
type wireNode struct {
	*collectors.Wire
	t    *testing.T
	last *node.Node
	ns   *lab.NS
}

// probe starts the probe in ns, as the exporter would: the device collector first.
func probe(t *testing.T, ns *lab.NS, cfg collectors.WireConfig) *wireNode {
	t.Helper()
	cfg.Logger = slog.New(slog.NewTextHandler(t.Output(), nil))
	w := &wireNode{Wire: collectors.NewWire(cfg), t: t, ns: ns}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); w.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	if err := w.observe(); err != nil {
		t.Fatal(err)
	}
	return w
}

// observe looks at the node from inside it.
func (w *wireNode) observe() error {
	w.t.Helper()
	devices := collectors.NewDevice(collectors.DeviceConfig{})
	n := &node.Node{}
	err := w.ns.Do(func() error {
		fill, err := devices.Observe(w.t.Context(), n)
		if fill == nil {
			return err
		}
		fill(n)
		fill, err = w.Observe(w.t.Context(), n)
		if fill != nil {
			fill(n)
		}
		return err
	})
	w.last = n
	return err
}

// settled observes until nothing more arrives, and returns what was found.
func (w *wireNode) settled() *node.Wire {
	w.t.Helper()
	var before uint64
	for range 100 {
		time.Sleep(220 * time.Millisecond) // more than twice what the probe lets packets pile up
		if err := w.observe(); err != nil {
			w.t.Fatal(err)
		}
		if now := w.last.Wire.Captured; now == before && now > 0 {
			break
		} else {
			before = now
		}
	}
	return w.last.Wire
}

func verdicts(w *node.Wire, direction, verdict string) (n float64) {
	for _, p := range w.Packets {
		if p.Direction == direction && p.Verdict == verdict {
			n += p.Packets
		}
	}
	return n
}

// TestWireNamesTheSender sends a known number of spoiled packets through the live failure and expects each of them
// counted once, on both nodes, with the peer, the variant, and the source port before NAT that conntrack on the sender
// knows.
func TestWireNamesTheSender(t *testing.T) {
	for _, family := range []lab.Family{lab.IPv4, lab.IPv6} {
		for _, receiver := range []lab.Receiver{lab.ReceiverNone, lab.ReceiverTrack, lab.ReceiverFirewalld} {
			for _, variant := range []string{node.OffloadedChecksum, node.ZeroChecksum} {
				t.Run(fmt.Sprintf("%s/%s/%s", variant, family, receiver), func(t *testing.T) {
					t.Parallel()
					o := lab.LiveFailure()
					o.Family, o.Receiver = family, receiver
					if variant == node.ZeroChecksum {
						o.UDPChecksum, o.ImitateA = false, true
					}
					wireNamesTheSender(t, labtest.NewRig(t, o), variant)
				})
			}
		}
	}
}

// byChance is how many of a few spoiled sums may look like those of another variant: one in some 10,000 is 0xffff or
// what an unfinished checksum would be, and no single packet can tell.
const byChance = 1

func wireNamesTheSender(t *testing.T, r *lab.Rig, variant string) {
	in, out := probe(t, r.B, collectors.WireConfig{}), probe(t, r.A, collectors.WireConfig{})
	before, err := r.B.ReadCounters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const sent = 8
	for range sent {
		// A new socket, hence a new flow, whose first packet carries the mark and is spoiled.
		if answered, err := r.Query(t.Context(), 1, 30*time.Millisecond); err != nil || answered != 0 {
			t.Fatalf("the failure is not there: %d answers, %v", answered, err)
		}
	}
	flows, err := r.OuterNAT()
	if err != nil {
		t.Fatal(err)
	}
	preNAT := map[uint16]uint16{} // by the port on the wire
	for _, f := range flows {
		preNAT[f.ReplyDestination.Port()] = f.Source.Port()
	}
	if len(preNAT) < sent-byChance { // two inner flows can get one outer source port
		t.Fatalf("conntrack knows %d NATed flows of %d: %v", len(preNAT), sent, flows)
	}
	for _, side := range []struct {
		probe     *wireNode
		direction string
		peer      netip.Addr
	}{{in, "in", r.UnderlayA}, {out, "out", r.UnderlayB}} {
		w := side.probe.settled()
		if n := verdicts(w, side.direction, "bad"); n != sent {
			t.Errorf("%s: %v bad packets, sent %d: %+v", side.direction, n, sent, w.Packets)
		}
		var all, right float64
		for _, b := range w.Bad {
			if b.Peer != side.peer.String() {
				t.Errorf("%s: bad packets of %s, want %s", side.direction, b.Peer, side.peer)
			}
			all += b.Packets
			if b.Variant == variant {
				right += b.Packets
			}
		}
		if all != sent || right < sent-byChance {
			t.Errorf("%s: bad packets by peer: %+v, want %d of %s, %s", side.direction, w.Bad, sent, side.peer, variant)
		}
		if len(w.Samples) != sent {
			t.Errorf("%s: %d samples, want %d", side.direction, len(w.Samples), sent)
		}
		for _, s := range w.Samples {
			want, tracked := preNAT[s.SourcePort]
			if s.Variant != node.OffloadedChecksum {
				want = 0 // the field says nothing of it
			}
			if !tracked || s.SourcePortPreNAT != want || s.Source.Addr() != r.UnderlayA || s.Destination.Addr() != r.UnderlayB {
				t.Errorf("%s: %+v: conntrack says the port was %d (known: %v)", side.direction, s, want, tracked)
			}
		}
		if w.Lost != 0 || w.SampleRatio != 1 {
			t.Errorf("%s: %d lost, ratio %v", side.direction, w.Lost, w.SampleRatio)
		}
	}
	// The probe sees what the counters of a firewalled node do not.
	after, err := r.B.ReadCounters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	counted := after.UDPInCsumErrors + after.UDP6InCsumErrors - before.UDPInCsumErrors - before.UDP6InCsumErrors
	if want := map[lab.Receiver]uint64{
		lab.ReceiverNone: sent, lab.ReceiverTrack: sent,
		lab.ReceiverFirewalld: 0,
	}[r.Options().Receiver]; counted != want {
		t.Errorf("InCsumErrors rose by %d, want %d", counted, want)
	}
}
