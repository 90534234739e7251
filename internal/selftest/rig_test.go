package selftest

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab/labtest"
)

// measureWith measures one variant over IPv4 in a rig where nft(8) has been given more rules.
func measureWith(t *testing.T, variant, rules string) (result node.SelfTestResult, err error) {
	t.Helper()
	labtest.Need(t, "nft")
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	err = inNamespace(func() error {
		r, err := newRig(ctx, "/proc")
		if err != nil {
			return err
		}
		defer r.close()
		// A program started from this thread is in its namespace.
		cmd := exec.CommandContext(ctx, "nft", "-f", "-")
		cmd.Stdin = strings.NewReader(rules)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		result, err = r.measure(ctx, variant, node.IPv4)
		return err
	})
	return result, err
}

// TestImitatedZeroChecksumBug imitates a kernel before the fix: after NAT the empty field holds 0xffff.
func TestImitatedZeroChecksumBug(t *testing.T) {
	got, err := measureWith(t, node.ZeroChecksum,
		"table ip bug { chain c { type filter hook postrouting priority 200; udp sport 40001 @th,48,16 set 0xffff; }; }")
	if err != nil {
		t.Fatal(err)
	}
	if got.Verdict != kernelversion.Affected || got.Evidence.Field != 0xffff || got.Evidence.SourcePort != natPort {
		t.Errorf("%+v %+v", got, got.Evidence)
	}
}

func TestNotTracked(t *testing.T) {
	for _, variant := range []string{node.ZeroChecksum, node.OffloadedChecksum} {
		got, err := measureWith(t, variant, "table ip no { chain c { type filter hook output priority -300; udp dport 4789 "+
			"notrack; }; }")
		if err != nil {
			t.Fatal(err)
		}
		if got.Verdict != kernelversion.Unknown || !strings.Contains(got.Reason, "not NATed") {
			t.Errorf("%+v", got)
		}
	}
}

// TestSpoiltWithoutNAT has a rig whose packets are bad in any case: no verdict on NAT can be drawn from it.
func TestSpoiltWithoutNAT(t *testing.T) {
	for _, variant := range []string{node.ZeroChecksum, node.OffloadedChecksum} {
		got, err := measureWith(t, variant, "table ip bad { chain c { type filter hook postrouting priority 200; udp dport "+
			"4789 @th,48,16 set 0x1234; }; }")
		if err != nil {
			t.Fatal(err)
		}
		if got.Verdict != kernelversion.Unknown || !strings.Contains(got.Reason, "without NAT the checksum is 0x1234") {
			t.Errorf("%+v", got)
		}
	}
}

func TestNothingComesOut(t *testing.T) {
	_, err := measureWith(t, node.ZeroChecksum,
		"table ip gone { chain c { type filter hook output priority 0; udp dport 4789 drop; }; }")
	if err == nil || !strings.Contains(err.Error(), "without NAT: no packet came out") {
		t.Error(err)
	}
}

// TestLegacyNAT has both variants and families with the rule in ip_tables, as where there is no nf_tables. That ip_tables
// is loaded then is up to who uses it: iptables(8).
func TestLegacyNAT(t *testing.T) {
	labtest.Need(t, "iptables-legacy")
	ctx, cancel := context.WithTimeout(t.Context(), timeout)
	defer cancel()
	got := node.SelfTest{}
	if err := inNamespace(func() error {
		r, err := newRig(ctx, "/proc")
		if err != nil {
			return err
		}
		defer r.close()
		for _, iptables := range []string{"iptables-legacy", "ip6tables-legacy"} {
			if out, err := exec.CommandContext(ctx, iptables, "-t", "nat", "-nL").CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %w: %s", iptables, err, out)
			}
		}
		r.legacy = true
		for _, variant := range []string{node.ZeroChecksum, node.OffloadedChecksum} {
			for _, family := range []string{node.IPv4, node.IPv6} {
				result, err := r.measure(ctx, variant, family)
				if err != nil {
					return err
				}
				got.Results = append(got.Results, result)
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	checkResults(t, got)
}

// TestLegacyNATNotLoaded: up to 4.5 the module would switch NAT on in every namespace.
func TestLegacyNATNotLoaded(t *testing.T) {
	r := &rig{proc: t.TempDir(), release: "3.10.108"}
	if err := r.addLegacyNAT(unix.AF_INET, natSource, vxlanPort, natPort); err == nil ||
		!strings.Contains(err.Error(), "not loaded") {
		t.Error(err)
	}
}
