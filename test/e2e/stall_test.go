package e2e_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// failure is one of the two variants on one kind of sender.
type failure struct {
	variant string
	family  lab.Family
	backend lab.Backend
}

// failures are all kinds of them, the variant that this kernel may not have among them.
func failures() []failure {
	var all []failure
	for _, variant := range []string{node.ZeroChecksum, node.OffloadedChecksum} {
		for _, family := range []lab.Family{lab.IPv4, lab.IPv6} {
			for _, backend := range []lab.Backend{lab.Legacy, lab.NFT} {
				all = append(all, failure{variant, family, backend})
			}
		}
	}
	return all
}

func (f failure) String() string { return fmt.Sprintf("%s/%s/%s", f.variant, f.family, f.backend) }

func (f failure) options() lab.Options {
	o := lab.LiveFailure()
	o.Family, o.Backend, o.UDPChecksum = f.family, f.backend, f.variant == node.OffloadedChecksum
	return o
}

// happens reports whether this kernel has the failure.
func (f failure) happens() bool {
	return f.variant == node.OffloadedChecksum || labtest.ZeroChecksumBug()
}

// ladder is how long a request stalls, and how many SYNs of it are lost, when the flow is forgotten timeout after its last packet.
// SYNs leave 0, 1, 3, 7, … s after the first (RFC 6298). The kernel sets the mark on the first alone, so the first to come after the
// flow was forgotten is not NATed and gets through.
func ladder(timeout time.Duration) (stall time.Duration, lost int) {
	for gap := time.Second; ; gap *= 2 {
		stall += gap
		lost++
		if gap > timeout {
			return stall, lost
		}
	}
}

// A request that nothing helps stalls until the outer flow is forgotten. The exporters see it coming, happening and gone.
func TestStall(t *testing.T) {
	t.Parallel()
	for _, f := range failures() {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			o := f.options()
			timeout := labtest.UDPTimeout(t)
			o.UDPTimeout = int(timeout / time.Second)
			o.TxRehash = labtest.RehashesAlways() // kernels that can be told are made to do as those that cannot
			n := newNodes(t, o, "--collector.wire")
			want, lost := ladder(timeout)
			if labtest.RehashesAlways() {
				want, lost = time.Second, 1
			}
			if !f.happens() {
				want, lost = 0, 0
			}
			family := "family=" + string(f.family)
			byPeer := series("vxlan_wire_bad_packets_total", "peer="+n.UnderlayA.String(), "direction=in", "variant="+f.variant)
			inCsumErrors := series("vxlan_host_udp_in_csum_errors_total", family)

			sender, receiver := n.sender.Scrape(), n.receiver.Scrape()
			if !f.happens() {
				is(t, sender, map[string]float64{exposure(f.variant, "clear"): 1})
			} else {
				is(t, sender, map[string]float64{exposure(f.variant, "exposed"): 1})
			}

			answered := n.inBackground(want + 60*time.Second)
			if f.happens() && !labtest.RehashesAlways() { // there is time to look
				n.seenHappening(f, receiver[inCsumErrors], func() bool { return len(answered) > 0 })
			}
			answer := <-answered
			stalled := answer.stall.Round(10 * time.Millisecond)
			// The SYN before is long gone, the next one twice as far away.
			if late := stalled - want; answer.err != nil || late < -100*time.Millisecond || late > max(want*2/3, enough) {
				t.Errorf("stalled %s, %v; want %s", stalled, answer.err, want)
			}

			rises := map[string]float64{
				inCsumErrors: float64(lost),
				series("vxlan_host_udp_in_errors_total", family): float64(lost),
				series("vxlan_host_conntrack_invalid_total"):     float64(lost),
			}
			after := n.receiver.Scrape()
			rose(t, receiver, after, rises)
			seen := n.count()
			if len(seen.Bad) != lost {
				t.Errorf("on the wire: %+v; want %d bad packets", seen, lost)
			}
			for _, p := range seen.Bad {
				if f.variant == node.ZeroChecksum && p.Field != 0xffff {
					t.Errorf("a bad packet has %#04x; want 0xffff", p.Field)
				}
			}
			if lost > 0 {
				eventually(t, n.receiver, map[string]float64{
					byPeer: float64(lost),
					series("vxlan_wire_packets_total", family, "direction=in", "verdict=bad"): float64(lost),
				})
			}
			t.Logf("FIGURE %s: stalled %.2f s, %d bad packets%s, InCsumErrors +%g, invalid +%g", f, stalled.Seconds(), len(seen.Bad), fields(seen.Bad),
				after[inCsumErrors]-receiver[inCsumErrors], after["vxlan_host_conntrack_invalid_total"]-receiver["vxlan_host_conntrack_invalid_total"])
			if f.happens() && labtest.RehashesAlways() {
				n.staysBroken(f)
			}
		})
	}
}

// staysBroken asks over one UDP socket, which keeps its path as long as it is used, until both exporters have shown that; and once more
// after a remedy.
func (n *nodes) staysBroken(f failure) {
	n.t.Helper()
	const queries = 8
	inCsumErrors := series("vxlan_host_udp_in_csum_errors_total", "family="+string(f.family))
	before, spoiled := n.receiver.Scrape(), len(n.count().Bad)
	type end struct {
		answered int
		err      error
	}
	over := make(chan end, 1)
	go func() {
		answered, err := n.Query(n.t.Context(), queries, 2*time.Second)
		over <- end{answered, err}
	}()
	n.seenHappening(f, before[inCsumErrors], func() bool { return len(over) > 0 })
	asked := <-over
	if asked.err != nil || asked.answered != 0 {
		n.t.Errorf("%d queries answered, %v; want none", asked.answered, asked.err)
	}
	rose(n.t, before, n.receiver.Scrape(), map[string]float64{inCsumErrors: queries})
	if bad := len(n.count().Bad) - spoiled; bad != queries {
		n.t.Errorf("%d bad packets on the wire; want %d", bad, queries)
	}
	n.t.Logf("FIGURE %s: %d of %d queries over UDP answered", f, asked.answered, queries)
	if err := n.SetTxChecksum(false); err != nil {
		n.t.Fatal(err)
	}
	if answered, err := n.Query(n.t.Context(), 1, 10*time.Second); err != nil || answered != 1 {
		n.t.Errorf("after the remedy %d of 1 queries answered, %v", answered, err)
	}
}

// fields lists the checksums that bad packets came with, when they are all the same.
func fields(bad []lab.BadPacket) string {
	for _, p := range bad {
		if p.Field != bad[0].Field {
			return ""
		}
	}
	if len(bad) == 0 {
		return ""
	}
	return fmt.Sprintf(" with %#04x", bad[0].Field)
}

type answer struct {
	stall time.Duration
	err   error
}

func (n *nodes) inBackground(limit time.Duration) <-chan answer {
	done := make(chan answer, 1)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(n.t.Context()), limit)
	go func() {
		defer cancel()
		stall, err := n.Request(ctx)
		done <- answer{stall, err}
	}()
	return done
}

// seenHappening waits for both exporters to show the failure, and fails when it is over before they did.
func (n *nodes) seenHappening(f failure, errorsBefore float64, over func() bool) {
	n.t.Helper()
	inCsumErrors := series("vxlan_host_udp_in_csum_errors_total", "family="+string(f.family))
	for {
		sender, receiver := n.sender.Scrape(), n.receiver.Scrape()
		if over() {
			n.t.Errorf("the failure was over before it was seen: active %g, InCsumErrors from %g to %g", sender[exposure(f.variant, "active")],
				errorsBefore, receiver[inCsumErrors])
			return
		}
		if sender[exposure(f.variant, "active")] == 1 && receiver[inCsumErrors] > errorsBefore {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// eventually scrapes until the series have the values, which some get from what is read every now and then.
func eventually(t *testing.T, e *labtest.Exporter, want map[string]float64) {
	t.Helper()
	m := e.Scrape()
	for range 100 {
		there := true
		for series, value := range want {
			there = there && m[series] == value
		}
		if there {
			break
		}
		time.Sleep(50 * time.Millisecond)
		m = e.Scrape()
	}
	is(t, m, want)
}

// other is the variant of the other outer checksum.
func (f failure) other() failure {
	if f.variant == node.ZeroChecksum {
		return failure{variant: node.OffloadedChecksum}
	}
	return failure{variant: node.ZeroChecksum}
}

type remedy struct {
	name       string
	take, undo func() error
	stalls     bool // by the other variant
}

// remedies are those of the failure on a rig.
func (f failure) remedies(r *lab.Rig) []remedy {
	udp := f.variant == node.OffloadedChecksum
	do := func(set func(bool) error, on bool) func() error { return func() error { return set(on) } }
	rules := func(rules lab.Rules, random bool) func() error {
		return func() error { return r.SetRules(rules, random) }
	}
	reset := func(m lab.MarkReset) func() error { return func() error { return r.SetMarkReset(m) } }
	return []remedy{
		{"tx-checksum-ip-generic off", do(r.SetTxChecksum, false), do(r.SetTxChecksum, true), false},
		{"fixed rules", rules(lab.RulesFixed, true), rules(lab.RulesOld, true), false},
		{"mark reset", reset(lab.MarkResetFilter), reset(lab.MarkResetNone), false},
		{"no --random-fully", rules(lab.RulesOld, false), rules(lab.RulesOld, true), false},
		{"NOTRACK", do(r.SetNotrack, true), do(r.SetNotrack, false), false},
		{"the other outer checksum", do(r.SetUDPChecksum, !udp), do(r.SetUDPChecksum, udp), f.other().happens()},
	}
}

// Each remedy clears the device, and the request is answered then; where it is undone, both are as they were.
func TestRemediesOfBothVariants(t *testing.T) {
	t.Parallel()
	for _, f := range failures() {
		t.Run(f.String(), func(t *testing.T) {
			t.Parallel()
			n := newNodes(t, f.options())
			inCsumErrors := series("vxlan_host_udp_in_csum_errors_total", "family="+string(f.family))
			for _, remedy := range f.remedies(n.Rig) {
				n.meets(f, remedy.name+", before", f.happens(), "exposed", "active")
				if err := remedy.take(); err != nil {
					t.Fatal(err)
				}
				before := n.receiver.Scrape()
				n.meets(f, remedy.name, remedy.stalls, "clear", "clear")
				errors := 0.0
				if remedy.stalls {
					errors = 1
					is(t, n.sender.Scrape(), map[string]float64{exposure(f.other().variant, "active"): 1})
				}
				rose(t, before, n.receiver.Scrape(), map[string]float64{inCsumErrors: errors})
				if err := remedy.undo(); err != nil {
					t.Fatal(err)
				}
			}
			n.meets(f, "all undone", f.happens(), "exposed", "active")
		})
	}
}

// meets makes a new connection and checks whether it stalls, and what the sender's exporter said before and says after it.
func (n *nodes) meets(f failure, when string, stalls bool, before, after string) {
	n.t.Helper()
	if err := n.FlushOuterFlows(); err != nil {
		n.t.Fatal(err)
	}
	if !f.happens() {
		before, after = "clear", "clear"
	}
	said := n.sender.Scrape()
	already := len(n.count().Bad)
	stalled := n.stalls()
	spoiled := len(n.count().Bad) - already
	says := n.sender.Scrape()
	for range 20 { // a scan of the flows may have run out of time
		if says[exposure(f.variant, after)] == 1 {
			break
		}
		time.Sleep(100 * time.Millisecond)
		says = n.sender.Scrape()
	}
	if stalled != stalls || (spoiled > 0) != stalls || said[exposure(f.variant, before)] != 1 || says[exposure(f.variant, after)] != 1 {
		n.t.Errorf("%s: stalled %t, want %t; %d spoiled packets; %s before it %g, %s after it %g, want 1", when, stalled, stalls, spoiled,
			before, said[exposure(f.variant, before)], after, says[exposure(f.variant, after)])
	}
}

// The self-test says of this kernel what its requests show, and the exporter then says the same by its evidence.
func TestSelfTestAndReality(t *testing.T) {
	t.Parallel()
	n := newWatched(t, failure{node.ZeroChecksum, lab.IPv4, lab.NFT}.options())
	stored := filepath.Join(t.TempDir(), "selftest.json")
	out, err := n.A.Run(labtest.Binary(t), "selftest", "--output=json", "--write="+stored)
	if err != nil {
		t.Fatal(err)
	}
	var result node.SelfTest
	if err := json.Unmarshal([]byte(out), &result); err != nil {
		t.Fatal(err)
	}
	exporter := labtest.StartExporter(t, n.A, labtest.Binary(t), "--selftest.file="+stored, "--conntrack.min-interval=0s")
	for variant, family := range map[string]lab.Family{node.ZeroChecksum: lab.IPv4, node.OffloadedChecksum: lab.IPv4} {
		f := failure{variant, family, lab.NFT}
		if err := errors.Join(n.SetUDPChecksum(variant == node.OffloadedChecksum), n.FlushOuterFlows()); err != nil {
			t.Fatal(err)
		}
		verdict := map[bool]string{true: "affected", false: "fixed"}[n.stalls()]
		if f.happens() != (verdict == "affected") {
			t.Errorf("%s: the requests say %s", variant, verdict)
		}
		results := 0
		for _, r := range result.Results {
			if r.Variant != variant {
				continue
			}
			results++
			if r.Verdict != verdict {
				t.Errorf("%s over %s: the self-test says %s (%s), the requests %s", variant, r.Family, r.Verdict, r.Reason, verdict)
			}
			t.Logf("FIGURE selftest: %s over %s %s", variant, r.Family, r.Verdict)
		}
		if results != 2 {
			t.Errorf("%s: %d results; want IPv4 and IPv6", variant, results)
		}
		is(t, exporter.Scrape(), map[string]float64{
			series("vxlan_kernel_nat_checksum_bug", "variant="+variant, "verdict="+verdict, "evidence=selftest"): 1,
			exposure(variant, map[bool]string{true: "active", false: "clear"}[f.happens()]):                      1,
		})
	}
}
