package e2e_test

import (
	"encoding/json"
	"errors"
	"os/exec"
	"testing"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// On every combination of switches the verdict of the check command on the sender is held against a real request: before it, the
// node is exposed exactly when the request is going to stall, and healthy otherwise; after it, failing exactly when it stalled.
func TestVerdictAndReality(t *testing.T) {
	t.Parallel()
	for _, backend := range []lab.Backend{lab.Legacy, lab.NFT} {
		for _, family := range []lab.Family{lab.IPv4, lab.IPv6} {
			t.Run(string(backend)+"/"+string(family), func(t *testing.T) {
				t.Parallel()
				o := lab.LiveFailure()
				o.Backend, o.Family = backend, family
				n := newWatched(t, o)
				stalls := 0
				for _, rules := range lab.AllRules() {
					if n.verdict(t, string(rules), combination{rules: rules, random: true, udp: true, tx: true}) {
						stalls++
					}
				}
				if stalls < 4 || stalls > len(lab.AllRules())-4 {
					t.Errorf("%d of %d rule forms stall: the rig does not tell them apart", stalls, len(lab.AllRules()))
				}
				for name, c := range map[string]combination{
					"not random":           {rules: lab.RulesOld, udp: true, tx: true},
					"tx off":               {rules: lab.RulesOld, random: true, udp: true},
					"noudpcsum":            {rules: lab.RulesOld, random: true, tx: true},
					"noudpcsum, tx off":    {rules: lab.RulesOld, random: true},
					"notrack":              {rules: lab.RulesOld, random: true, udp: true, tx: true, notrack: true},
					"mark reset in filter": {rules: lab.RulesOld, random: true, udp: true, tx: true, reset: lab.MarkResetFilter},
					"mark reset in mangle": {rules: lab.RulesOld, random: true, udp: true, tx: true, reset: lab.MarkResetMangle},
					"bypassed, not random": {rules: lab.RulesBypassed, udp: true, tx: true},
					"bypassed, tx off":     {rules: lab.RulesBypassed, random: true, udp: true},
					"bypassed, notrack":    {rules: lab.RulesBypassed, random: true, udp: true, tx: true, notrack: true},
					"fixed, noudpcsum":     {rules: lab.RulesFixed, random: true, tx: true},
					"fixed, not random":    {rules: lab.RulesFixed, udp: true, tx: true},
				} {
					n.verdict(t, name, c)
				}
			})
		}
	}
}

// combination is one setting of the sender's switches.
type combination struct {
	rules                    lab.Rules
	random, udp, tx, notrack bool
	reset                    lab.MarkReset
}

// verdict sets the switches, makes the request, and reports whether it stalled.
func (n *nodes) verdict(t *testing.T, name string, c combination) (stalled bool) {
	if c.reset == "" {
		c.reset = lab.MarkResetNone
	}
	t.Run(name, func(t *testing.T) {
		if err := errors.Join(
			n.SetRules(c.rules, c.random), n.SetUDPChecksum(c.udp), n.SetTxChecksum(c.tx), n.SetNotrack(c.notrack), n.SetMarkReset(c.reset),
			n.FlushOuterFlows(),
		); err != nil {
			t.Fatal(err)
		}
		before := n.check(t)
		stalled = n.stalls()
		after := n.check(t)
		wantBefore, wantAfter := diagnosis.Healthy, diagnosis.Healthy
		if stalled {
			wantBefore, wantAfter = diagnosis.Exposed, diagnosis.Failing
		}
		if before.State != wantBefore || after.State != wantAfter {
			t.Errorf("stalled %t; before it %s, want %s (%s); after it %s, want %s (%s)",
				stalled, before.State, wantBefore, before.Headline, after.State, wantAfter, after.Headline)
		}
	})
	return stalled
}

// check runs the check command on the sender.
func (n *nodes) check(t *testing.T) diagnosis.Diagnosis { t.Helper(); return checkIn(t, n.A).Diagnosis }

// checked is the part of a report that tests read.
type checked struct {
	Diagnosis   diagnosis.Diagnosis
	Observation struct{ Now node.Node }
}

// checkIn runs the check command in a namespace and compares its exit status with its verdict.
func checkIn(t *testing.T, ns *lab.NS, args ...string) (c checked) {
	t.Helper()
	out, err := ns.Cmd(t.Context(), append([]string{labtest.Binary(t), "check", "--interval=0s", "--output=json"}, args...)...).Output()
	status := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		status = e.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(out, &c); err != nil {
		t.Fatalf("check, exit status %d: %v: %.300s", status, err, out)
	}
	if status != c.Diagnosis.State.ExitStatus() {
		t.Errorf("exit status %d for %s", status, c.Diagnosis.State)
	}
	return c
}
