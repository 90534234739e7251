package collectors_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// stream sends TCP from node A to the pod, as fast as it goes, until the test ends.
func stream(t *testing.T, r *lab.Rig) {
	t.Helper()
	address := fmt.Sprintf("%s:9999", r.PodIP)
	var l net.Listener
	if err := r.Pod.Do(func() (err error) { l, err = net.Listen("tcp4", address); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	out, err := r.A.DialContext(ctx, "tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(io.Discard, in); done <- struct{}{} }()
	go func() {
		for buf := make([]byte, 128<<10); err == nil; {
			_, err = out.Write(buf)
		}
		done <- struct{}{}
	}()
	t.Cleanup(func() {
		in.Close()
		out.Close()
		<-done
		<-done
	})
}

// TestWireGoodPackets judges every packet of healthy overlays one by one, in all the states that offloads leave
// checksums in. None is bad.
func TestWireGoodPackets(t *testing.T) {
	for _, tt := range []struct {
		name    string
		options lab.Options
		nic     []string // ethtool -K of the underlay, both ends
		packets uint64
		verdict map[string]string // by direction, one that must be among them
	}{
		{
			"finished, IPv4",
			lab.Options{UDPChecksum: true, TxChecksum: true},
			nil, 150_000,
			map[string]string{"in": "ok", "out": "ok"},
		},
		{
			"finished, IPv6",
			lab.Options{UDPChecksum: true, TxChecksum: true, Family: lab.IPv6},
			nil, 50_000,
			map[string]string{"in": "ok", "out": "ok"},
		},
		{"fixed rules, firewalld", lab.Options{
			UDPChecksum: true, Rules: lab.RulesFixed, RandomFully: true,
			Receiver: lab.ReceiverFirewalld, TxChecksum: true,
		}, nil, 20_000, map[string]string{"in": "ok"}},
		{"no offload of the device", lab.Options{UDPChecksum: true}, nil, 20_000, map[string]string{"in": "ok", "out": "ok"}},
		{
			"unfinished",
			lab.Options{UDPChecksum: true, TxChecksum: true},
			[]string{"tx", "on", "gso", "off", "tso", "off"},
			30_000,
			map[string]string{"in": "completed_ok", "out": "completed_ok"},
		},
		{
			"unfinished, IPv6",
			lab.Options{UDPChecksum: true, TxChecksum: true, Family: lab.IPv6},
			[]string{"tx", "on", "gso", "off", "tso", "off"},
			30_000,
			map[string]string{"in": "completed_ok", "out": "completed_ok"},
		},
		{
			"many in one",
			lab.Options{UDPChecksum: true, TxChecksum: true},
			[]string{"tx", "on"},
			5_000,
			map[string]string{"in": "partial", "out": "partial"},
		},
		{
			"put together on the way in",
			lab.Options{UDPChecksum: true, TxChecksum: true},
			[]string{"gro", "on"},
			5_000,
			map[string]string{"out": "ok"},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := labtest.NewRig(t, tt.options)
			if tt.nic != nil {
				for _, n := range []*lab.NS{r.A, r.B} {
					if _, err := n.Run(append([]string{"ethtool", "-K", lab.Underlay}, tt.nic...)...); err != nil {
						t.Fatal(err)
					}
				}
			}
			stream(t, r)
			for _, side := range []struct {
				ns        *lab.NS
				direction string
			}{{r.B, "in"}, {r.A, "out"}} {
				w := judgeAll(t, probe(t, side.ns, collectors.WireConfig{MaxPacketsPerSecond: 1 << 30}), tt.packets/2)
				if bad := verdicts(w, "in", "bad") + verdicts(w, "out", "bad"); bad != 0 {
					t.Errorf("%v bad: %+v", bad, w.Samples)
				}
				if want := tt.verdict[side.direction]; want != "" && verdicts(w, side.direction, want) == 0 {
					t.Errorf("%s: none is %s: %+v", side.direction, want, w.Packets)
				}
			}
		})
	}
}

// judgeAll observes until n packets have been judged.
func judgeAll(t *testing.T, p *wireNode, n uint64) *node.Wire {
	t.Helper()
	for start := time.Now(); time.Since(start) < time.Minute; time.Sleep(50 * time.Millisecond) {
		if err := p.observe(); err != nil {
			t.Fatal(err)
		}
		if p.last.Wire.Captured >= n {
			return p.last.Wire
		}
	}
	t.Fatalf("only %d of %d packets in a minute", p.last.Wire.Captured, n)
	return nil
}

// TestWireSpoiledButNeverOnAWire: the live failure between veths that leave checksums unfinished. The sender's packets
// are spoiled, but the receiver, which takes them all, has nothing to complain of.
func TestWireSpoiledButNeverOnAWire(t *testing.T) {
	r := labtest.NewRig(t, lab.LiveFailure())
	for _, n := range []*lab.NS{r.A, r.B} {
		if _, err := n.Run("ethtool", "-K", lab.Underlay, "tx", "on"); err != nil {
			t.Fatal(err)
		}
	}
	in, out := probe(t, r.B, collectors.WireConfig{}), probe(t, r.A, collectors.WireConfig{})
	const queries = 5
	for range queries {
		if answered, err := r.Query(t.Context(), 1, time.Second); err != nil || answered != 1 {
			t.Fatalf("%d answers, %v", answered, err)
		}
	}
	if w := in.settled(); verdicts(w, "in", "bad") != 0 || verdicts(w, "in", "unjudgeable") != queries {
		t.Errorf("receiver: %+v", w)
	}
	// A NIC that finished these would send them spoiled.
	if w := out.settled(); verdicts(w, "out", "bad") != queries || w.Bad[0].Variant != node.OffloadedChecksum {
		t.Errorf("sender: %+v", w)
	}
}
