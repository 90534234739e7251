package lab_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/test/lab"
)

func TestStandingRig(t *testing.T) {
	t.Parallel()
	o := lab.LiveFailure()
	o.Name = fmt.Sprintf("vxe-standing-%d", os.Getpid())
	if _, err := lab.Open(o.Name); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("Open before Raise: %v; want fs.ErrNotExist", err)
	}
	made, err := lab.Raise(o)
	must(t, err)
	defer func() { must(t, lab.TakeDown(o.Name)) }()
	if _, err := lab.Raise(o); err == nil {
		t.Error("the same rig was raised twice")
	}

	served := make(chan error, 1)
	go func() { served <- lab.ServeStanding(context.WithoutCancel(t.Context()), o.Name) }()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	must(t, made.WaitPod(ctx))

	r, err := lab.Open(o.Name)
	must(t, err)
	if !request(t, r) {
		t.Error("no stall")
	}
	must(t, r.SetRules(lab.RulesFixed, true))
	again, err := lab.Open(o.Name)
	must(t, err)
	if got := again.Options(); got.Rules != lab.RulesFixed || got.Port != 8472 {
		t.Errorf("remembered %+v; want the fixed rules", got)
	}
	must(t, again.SetRules(lab.RulesNFTables, true))
	if out, err := r.A.Run("iptables-legacy-save", "-t", "nat"); err != nil || containsRule(out) {
		t.Errorf("iptables rules stayed behind: %v\n%s", err, out)
	}
	if request(t, again) {
		t.Error("stall with kube-proxy's nftables rules")
	}

	must(t, lab.TakeDown(o.Name))
	select {
	case err := <-served:
		must(t, err)
	case <-time.After(5 * time.Second):
		t.Error("the pod's server outlived the rig")
	}
	if _, err := lab.Open(o.Name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open after TakeDown: %v; want fs.ErrNotExist", err)
	}
}

func TestBadOptions(t *testing.T) {
	for name, o := range map[string]lab.Options{
		"rules":       {Rules: "older"},
		"backend":     {Backend: "ebtables"},
		"family":      {Family: "ipx"},
		"receiver":    {Receiver: "ufw"},
		"mark reset":  {MarkReset: "raw"},
		"mark bit":    {MarkBit: 32},
		"UDP timeout": {UDPTimeout: -1},
	} {
		r, err := lab.New(o)
		if err == nil {
			t.Errorf("%s: accepted", name)
			_ = r.Close()
		}
	}
}

func containsRule(saved string) bool { return strings.Contains(saved, "\n-A ") }
