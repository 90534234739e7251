package e2e_test

import (
	"os/exec"
	"strings"
	"testing"

	"vxlan_exporter/test/lab/labtest"
)

// The demonstration runs to its end, shows the failure on both nodes, and fails when there is none to show.
func TestDemo(t *testing.T) {
	t.Parallel()
	labtest.NeedNamespaces(t)
	out, err := exec.CommandContext(t.Context(), "go", "run", "vxlan_exporter/test/lab/demo", "--exporter", labtest.Binary(t)).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"      0      2      3  vxlan_host_udp_in_csum_errors_total{family=\"ipv4\"}\n",
		"      0      1      0  vxlan_conntrack_nat_flows{family=\"ipv4\",nat=\"snat\",",
		"3 packets with a bad outer checksum reached the receiver",
		"vxlan_exporter check",
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("not printed: %q", want)
		}
	}
	for line := range strings.Lines(string(out)) {
		if len(strings.TrimSuffix(line, "\n")) > 80 {
			t.Errorf("wider than 80 columns: %q", line)
		}
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

func TestDemoWithoutFailure(t *testing.T) {
	t.Parallel()
	labtest.NeedNamespaces(t)
	out, err := exec.CommandContext(t.Context(), "go", "run", "vxlan_exporter/test/lab/demo", "--exporter", labtest.Binary(t), "--rules=fixed").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "the failure did not show") {
		t.Errorf("%v\n%s", err, out)
	}
}
