package lab_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// The counters of a receiver, next to what really arrived on its wire.
func TestReceivers(t *testing.T) {
	t.Parallel()
	const bad = 3
	for _, family := range []lab.Family{lab.IPv4, lab.IPv6} {
		for receiver, want := range map[lab.Receiver]struct{ inCsumErrors, invalid, drops uint64 }{
			lab.ReceiverNone:      {bad, 0, bad},
			lab.ReceiverTrack:     {bad, bad, 0},
			lab.ReceiverFirewalld: {0, bad, 0},
		} {
			t.Run(fmt.Sprintf("%s/%s", family, receiver), func(t *testing.T) {
				t.Parallel()
				o := lab.LiveFailure()
				o.Family, o.Receiver = family, receiver
				r := labtest.NewRig(t, o)
				wire, err := r.WatchWire()
				must(t, err)
				defer wire.Close()
				before := counters(t, r, family)
				if answered, err := r.Query(t.Context(), bad, 50*time.Millisecond); err != nil || answered != 0 {
					t.Errorf("%d queries answered, %v; want none", answered, err)
				}
				after := counters(t, r, family)
				for i, name := range []string{"InCsumErrors", "invalid", "drops"} {
					want := []uint64{want.inCsumErrors, want.invalid, want.drops}[i]
					if got := after[i] - before[i]; got != want {
						t.Errorf("%s rose by %d; want %d", name, got, want)
					}
				}

				seen, err := wire.Count()
				must(t, err)
				if len(seen.Bad) != bad || seen.Packets != bad {
					t.Fatalf("on the wire: %+v; want %d bad packets", seen, bad)
				}
				flows, err := r.OuterNAT()
				must(t, err)
				if len(flows) != 1 {
					t.Fatalf("NATed flows: %v; want one", flows)
				}
				for _, p := range seen.Bad {
					if age := time.Since(p.Received); age < 0 || age > time.Minute {
						t.Errorf("received %v ago", age)
					}
					if p.Source != flows[0].ReplyDestination {
						t.Errorf("bad packet from %s; conntrack says it left as %s", p.Source, flows[0].ReplyDestination)
					}
					// The offload finishes a sum that still holds the port before NAT (RFC 1624: sums of complements).
					sum := (uint32(p.Source.Port()) + uint32(p.Correct) + 0xffff - uint32(p.Field)) % 0xffff
					if uint16(sum) != flows[0].Source.Port() {
						t.Errorf("field %#04x, correct %#04x, port %d: give the port %d before NAT; conntrack says %d",
							p.Field, p.Correct, p.Source.Port(), sum, flows[0].Source.Port())
					}
				}
			})
		}
	}
}

// counters returns InCsumErrors of the family, conntrack's invalid and the drops of the VXLAN socket.
func counters(t *testing.T, r *lab.Rig, family lab.Family) [3]uint64 {
	t.Helper()
	c, err := r.B.ReadCounters(t.Context())
	must(t, err)
	table, inCsumErrors := "udp", c.UDPInCsumErrors
	if family == lab.IPv6 {
		table, inCsumErrors = "udp6", c.UDP6InCsumErrors
	}
	out, err := r.B.Run("cat", "/proc/net/"+table)
	must(t, err)
	for line := range strings.Lines(out) {
		f := strings.Fields(line)
		if len(f) < 13 || !strings.HasSuffix(f[1], fmt.Sprintf(":%04X", r.Options().Port)) {
			continue
		}
		var drops uint64
		if _, err := fmt.Sscan(f[12], &drops); err != nil {
			t.Fatal(err)
		}
		return [3]uint64{inCsumErrors, c.Invalid, drops}
	}
	t.Fatalf("no VXLAN socket in /proc/net/%s:\n%s", table, out)
	return [3]uint64{}
}

func TestHealthyWire(t *testing.T) {
	t.Parallel()
	o := lab.LiveFailure()
	o.Rules = lab.RulesFixed
	r := labtest.NewRig(t, o)
	wire, err := r.WatchWire()
	must(t, err)
	defer wire.Close()
	if request(t, r) {
		t.Error("stalled")
	}
	seen, err := wire.Count()
	must(t, err)
	if seen.Packets < 4 || seen.Zero != 0 || len(seen.Bad) != 0 { // SYN, ACK, request, FIN
		t.Errorf("on the wire: %+v; want at least 4 packets, all with a right checksum", seen)
	}
	must(t, r.SetUDPChecksum(false))
	seen, err = wire.Count() // the request's last packets may have come after its answer
	must(t, err)
	if request(t, r) {
		t.Error("stalled without outer checksum")
	}
	now, err := wire.Count()
	must(t, err)
	if now.Packets <= seen.Packets || now.Zero != now.Packets-seen.Packets || len(now.Bad) != 0 {
		t.Errorf("on the wire: %+v, before %+v; want the new ones without a checksum", now, seen)
	}
}
