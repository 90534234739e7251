package lab_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// enough tells a stall, which lasts until the first SYN timeout of 1 s at the least, from an answer, which takes
// milliseconds.
const enough = 800 * time.Millisecond

func request(t *testing.T, r *lab.Rig) (stalled bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), enough)
	defer cancel()
	_, err := r.Request(ctx)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	return err != nil
}

// natedFlows makes a fresh request and returns whether it stalled and how many VXLAN flows of it were NATed.
func natedFlows(t *testing.T, r *lab.Rig) (stalled bool, nated int) {
	t.Helper()
	must(t, r.FlushOuterFlows())
	stalled = request(t, r)
	flows, err := r.OuterNAT()
	must(t, err)
	return stalled, len(flows)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// everyKind runs f on both backends and both underlay families.
func everyKind(t *testing.T, f func(*testing.T, lab.Options)) {
	t.Parallel()
	for _, family := range []lab.Family{lab.IPv4, lab.IPv6} {
		for _, backend := range []lab.Backend{lab.Legacy, lab.NFT} {
			t.Run(fmt.Sprintf("%s/%s", family, backend), func(t *testing.T) {
				t.Parallel()
				o := lab.LiveFailure()
				o.Family, o.Backend = family, backend
				f(t, o)
			})
		}
	}
}

func TestRules(t *testing.T) {
	everyKind(t, func(t *testing.T, o lab.Options) {
		r := labtest.NewRig(t, o)
		tested := map[lab.Rules]bool{}
		for rules, failing := range map[lab.Rules]bool{
			lab.RulesNone: false, lab.RulesOld: true, lab.RulesFixed: false, lab.RulesBypassed: true, lab.RulesFlannel: true,
			lab.RulesFlannelKube: false, lab.RulesDocker: false, lab.RulesIPVS: false, lab.RulesNFTables: false,
			lab.RulesNFTablesOld: true,
		} {
			tested[rules] = true
			must(t, r.SetRules(rules, true))
			stalled, nated := natedFlows(t, r)
			if stalled != failing || (nated > 0) != failing {
				t.Errorf("%s: stalled %t, %d flows NATed; want failing %t", rules, stalled, nated, failing)
			}
		}
		if len(tested) != len(lab.AllRules()) {
			t.Errorf("tested %v of %v", tested, lab.AllRules())
		}
	})
}

// A remedy on a live failure cures new connections.
func TestRemedies(t *testing.T) {
	everyKind(t, func(t *testing.T, o lab.Options) {
		r := labtest.NewRig(t, o)
		if stalled, nated := natedFlows(t, r); !stalled || nated != 1 {
			t.Fatalf("before any remedy: stalled %t, %d flows NATed; want the failure", stalled, nated)
		}
		for _, remedy := range []struct {
			name       string
			take, undo func() error
			nated      bool // the flow is NATed still, harmlessly
		}{
			{
				"tx-checksum-ip-generic off", func() error { return r.SetTxChecksum(false) },
				func() error { return r.SetTxChecksum(true) }, true,
			},
			{
				"mark reset in filter", func() error { return r.SetMarkReset(lab.MarkResetFilter) },
				func() error { return r.SetMarkReset(lab.MarkResetNone) }, false,
			},
			{
				"mark reset in mangle", func() error { return r.SetMarkReset(lab.MarkResetMangle) },
				func() error { return r.SetMarkReset(lab.MarkResetNone) }, false,
			},
			{
				"fixed rules", func() error { return r.SetRules(lab.RulesFixed, true) },
				func() error { return r.SetRules(lab.RulesOld, true) }, false,
			},
			{
				"no --random-fully", func() error { return r.SetRules(lab.RulesOld, false) },
				func() error { return r.SetRules(lab.RulesOld, true) }, false,
			},
			{"NOTRACK", func() error { return r.SetNotrack(true) }, func() error { return r.SetNotrack(false) }, false},
			{
				"no outer checksum", func() error { return r.SetUDPChecksum(false) },
				func() error { return r.SetUDPChecksum(true) }, true,
			},
		} {
			must(t, remedy.take())
			worse := remedy.name == "no outer checksum" && labtest.ZeroChecksumBug() // one variant is traded for the other
			if stalled, nated := natedFlows(t, r); stalled != worse || (nated > 0) != remedy.nated {
				t.Errorf("%s: stalled %t, want %t; %d flows NATed, want any %t", remedy.name, stalled, worse, nated, remedy.nated)
			}
			must(t, remedy.undo())
		}
		if stalled, _ := natedFlows(t, r); !stalled {
			t.Error("the failure did not return when the remedies were undone")
		}
	})
}

// The rules that name an IP set do name one that exists and holds the pod.
func TestIPVSRules(t *testing.T) {
	t.Parallel()
	for _, backend := range []lab.Backend{lab.Legacy, lab.NFT} {
		o := lab.LiveFailure()
		o.Backend, o.Rules = backend, lab.RulesIPVS
		r := labtest.NewRig(t, o)
		out, err := r.A.Run("iptables-"+string(backend)+"-save", "-t", "nat")
		must(t, err)
		if !strings.Contains(out, "--match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE") {
			t.Errorf("%s: no rule for the set:\n%s", backend, out)
		}
		must(t, r.SetRules(lab.RulesOld, true))
		must(t, r.SetRules(lab.RulesIPVS, true))
		if stalled, nated := natedFlows(t, r); stalled || nated != 0 {
			t.Errorf("%s: stalled %t, %d flows NATed", backend, stalled, nated)
		}
	}
}

func TestNotrackLeavesNoFlow(t *testing.T) {
	t.Parallel()
	o := lab.LiveFailure()
	o.Notrack = true
	r := labtest.NewRig(t, o)
	if request(t, r) {
		t.Error("stalled")
	}
	if flows, err := r.OuterFlows(); err != nil || len(flows) != 0 {
		t.Errorf("VXLAN flows are tracked in spite of NOTRACK: %v, %v", flows, err)
	}
}

// What a remedy does for a connection that has stalled already.
func TestStalledConnection(t *testing.T) {
	t.Parallel()
	for name, remedy := range map[string]struct {
		take      func(*lab.Rig) error
		needFlush bool // the tracked flow must be deleted, too
	}{
		"tx-checksum-ip-generic off": {take: func(r *lab.Rig) error { return r.SetTxChecksum(false) }},
		"NOTRACK":                    {take: func(r *lab.Rig) error { return r.SetNotrack(true) }},
		"mark reset": {
			take:      func(r *lab.Rig) error { return r.SetMarkReset(lab.MarkResetFilter) },
			needFlush: true,
		},
		"fixed rules": {
			take:      func(r *lab.Rig) error { return r.SetRules(lab.RulesFixed, true) },
			needFlush: true,
		},
		"no --random-fully": {
			take:      func(r *lab.Rig) error { return r.SetRules(lab.RulesOld, false) },
			needFlush: true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := labtest.NewRig(t, lab.LiveFailure())
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			done := make(chan error, 1)
			go func() {
				_, err := r.Request(ctx)
				done <- err
			}()
			time.Sleep(300 * time.Millisecond) // the first SYN is lost, the next one comes after 1 s
			must(t, remedy.take(r))
			if remedy.needFlush {
				select {
				case err := <-done:
					t.Fatalf("ended at the first retransmit, before the flow was deleted: %v", err)
				case <-time.After(1200 * time.Millisecond):
				}
				must(t, r.FlushOuterFlows()) // cured by the second retransmit, after 3 s
			}
			must(t, <-done)
		})
	}
}

// A request that survives two SYN timeouts outlives the shortened conntrack timeout and then gets through.
func TestLadder(t *testing.T) {
	t.Parallel()
	o := lab.LiveFailure()
	o.UDPTimeout = 3
	r := labtest.NewRig(t, o)
	wire, err := r.WatchWire()
	must(t, err)
	defer wire.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	stall, err := r.Request(ctx)
	if err != nil || stall < 6900*time.Millisecond || stall > 14*time.Second { // the next SYN but one is at 15 s
		t.Errorf("stall %s, %v; want the SYNs at 0, 1, 3 s lost and that at 7 s answered", stall, err)
	}
	seen, err := wire.Count()
	must(t, err)
	if len(seen.Bad) != 3 {
		t.Errorf("%d bad packets; want 3: %+v", len(seen.Bad), seen)
	}
}

// Kernels that rehash after a SYN timeout leave the failing path then. A UDP socket never does.
func TestRehash(t *testing.T) {
	t.Parallel()
	o := lab.LiveFailure()
	o.TxRehash = true
	r := labtest.NewRig(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if stall, err := r.Request(ctx); err != nil || stall < enough || stall > 2900*time.Millisecond {
		t.Errorf("stall %s, %v; want about 1 s", stall, err)
	}
	answered, err := r.Query(t.Context(), 5, 100*time.Millisecond)
	if err != nil || answered != 0 {
		t.Errorf("%d of 5 queries answered, %v; want none", answered, err)
	}
	must(t, r.SetTxChecksum(false))
	answered, err = r.Query(t.Context(), 5, enough)
	if err != nil || answered != 5 {
		t.Errorf("%d of 5 queries answered, %v; want all after the remedy", answered, err)
	}
}

func TestImitationOfZeroChecksumBug(t *testing.T) {
	t.Parallel()
	for _, backend := range []lab.Backend{lab.Legacy, lab.NFT} {
		t.Run(string(backend), func(t *testing.T) {
			t.Parallel()
			o := lab.LiveFailure()
			o.Backend, o.UDPChecksum, o.ImitateA = backend, false, true
			r := labtest.NewRig(t, o)
			wire, err := r.WatchWire()
			must(t, err)
			defer wire.Close()
			if stalled, nated := natedFlows(t, r); !stalled || nated != 1 {
				t.Errorf("stalled %t, %d flows NATed; want the failure", stalled, nated)
			}
			seen, err := wire.Count()
			must(t, err)
			if len(seen.Bad) != 1 || seen.Bad[0].Field != 0xffff {
				t.Errorf("on the wire: %+v; want one packet with 0xffff", seen)
			}
			must(t, r.SetTxChecksum(false))
			if stalled, nated := natedFlows(t, r); stalled || nated != 1 {
				t.Errorf("tx-checksum-ip-generic off: stalled %t, %d flows NATed; want a cure", stalled, nated)
			}
		})
	}
}

func TestOtherPortAndMark(t *testing.T) {
	t.Parallel()
	o := lab.LiveFailure()
	o.Port, o.MarkBit = 4789, 20
	r := labtest.NewRig(t, o)
	if stalled, nated := natedFlows(t, r); !stalled || nated != 1 {
		t.Errorf("stalled %t, %d flows NATed; want the failure", stalled, nated)
	}
}
