package report

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

// The format of plugins: one line, at most one bar, performance data as 'label'=value[UOM];[warn];[crit];[min];[max].
func TestNagiosIsOneLine(t *testing.T) {
	words := map[string]string{"healthy": "OK", "exposed": "WARNING", "failing": "CRITICAL", "unknown": "UNKNOWN"}
	form := regexp.MustCompile(`^VXLAN (OK|WARNING|CRITICAL|UNKNOWN): [^|\n]+( \|( [a-z_]+=\d+(c|;;;\d+(;\d+)?)?)+)?\n$`)
	for name, n := range observations() {
		var b strings.Builder
		if err := Nagios(&b, n, diagnosis.Judge(n)); err != nil {
			t.Fatal(err)
		}
		if m := form.FindStringSubmatch(b.String()); m == nil || m[1] != words[name] {
			t.Errorf("%s: %q", name, b.String())
		}
	}
}

// What was not read has no value, and what is read is not garbled by it.
func TestNagiosSaysOnlyWhatWasRead(t *testing.T) {
	line := func(n *node.Node) string {
		var b strings.Builder
		if err := Nagios(&b, n, diagnosis.Diagnosis{
			State:    diagnosis.Failing,
			Headline: "a|b\nc\x1b",
		}); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	if got, want := line(&node.Node{}), "VXLAN CRITICAL: a/b c\\x1b\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	n := oneNode(0)
	n.Host.UDP4.InCsumErrors, n.Host.UDP6.InCsumErrors = new(uint64(2)), nil
	n.Conntrack.Ports[0].SNAT = 3
	if got, want := line(n), "VXLAN CRITICAL: a/b c\\x1b | exposed_devices=0;;;0;1 nat_flows=3;;;0 "+
		"udp_in_csum_errors=2c conntrack_invalid=1180c\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	var b strings.Builder
	if err := NagiosError(&b, errors.New("no such file\n")); err != nil || b.String() != "VXLAN UNKNOWN: no such file\n" {
		t.Errorf("%q, %v", b.String(), err)
	}
}
