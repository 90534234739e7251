package report

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/node"
)

func selfTest() node.SelfTest {
	return node.SelfTest{
		Time: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), BootID: "boot", Release: "6.18.44",
		Results: []node.SelfTestResult{
			{
				Variant: node.ZeroChecksum, Family: node.IPv4, Verdict: kernelversion.Fixed,
				Evidence: &node.Sums{Correct: 0xa41, SourcePort: 40001, SourcePortPreNAT: 50100},
			},
			{
				Variant: node.ZeroChecksum, Family: node.IPv6, Verdict: kernelversion.Unknown,
				Reason: "no IPv6: open /proc/sys/net/ipv6/conf/vxst-near/disable_ipv6: no such file or directory",
			},
			{
				Variant: node.OffloadedChecksum, Family: node.IPv4, Verdict: kernelversion.Affected,
				Evidence: &node.Sums{Field: 0x79d6, Correct: 0xa149, SourcePort: 40001, SourcePortPreNAT: 50100},
			},
		},
	}
}

const wantSelfTest = `What NAT does to the outer checksum of VXLAN on this kernel
kernel 6.18.44, 2026-01-02 03:04:05 UTC

VARIANT             UNDERLAY  VERDICT   FIELD   CORRECT  SOURCE PORT BEFORE NAT
zero_checksum       ipv4      fixed     0x0000  0x0a41   40001       50100
zero_checksum       ipv6      unknown   -       -        -           -
offloaded_checksum  ipv4      affected  0x79d6  0xa149   40001       50100

unknown, zero_checksum over ipv6: no IPv6: open
  /proc/sys/net/ipv6/conf/vxst-near/disable_ipv6: no such file or directory.
zero_checksum: devices made with noudpcsum send no outer checksum, and NAT
  leaves it so.
offloaded_checksum: devices with udpcsum (the default) send a wrong outer
  checksum when the outer packet is NATed and the checksum of the inner one is
  left to offload. Receivers drop such packets. No kernel release is known to be
  fixed: keep the outer packet from being NATed, or switch
  tx-checksum-ip-generic off on the device.
`

func TestSelfTest(t *testing.T) {
	var b bytes.Buffer
	if err := SelfTestText(&b, selfTest()); err != nil {
		t.Fatal(err)
	}
	if b.String() != wantSelfTest {
		t.Errorf("got\n%s\nwant\n%s", &b, wantSelfTest)
	}
}

func TestSelfTestReasonOnce(t *testing.T) {
	s := selfTest()
	for i := range s.Results {
		s.Results[i].Verdict, s.Results[i].Reason = kernelversion.Unknown, "no VXLAN: operation not supported"
	}
	var b bytes.Buffer
	if err := SelfTestText(&b, s); err != nil {
		t.Fatal(err)
	}
	want := "\nunknown, zero_checksum over ipv4, zero_checksum over ipv6, offloaded_checksum\n" +
		"  over ipv4: no VXLAN: operation not supported.\n"
	if !strings.HasSuffix(b.String(), want) {
		t.Errorf("got\n%s\nwant at the end\n%s", &b, want)
	}
}

func TestSelfTestWidth(t *testing.T) {
	s := selfTest()
	for _, verdict := range []string{kernelversion.Affected, kernelversion.Fixed, kernelversion.Unknown} {
		for i := range s.Results {
			s.Results[i].Verdict = verdict
		}
		var b bytes.Buffer
		if err := SelfTestText(&b, s); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if len(strings.TrimSuffix(line, "\n")) > 80 || strings.TrimRight(line, " \n") != strings.TrimSuffix(line, "\n") {
				t.Errorf("%s: %q", verdict, line)
			}
		}
	}
}

func TestSelfTestJSON(t *testing.T) {
	var b bytes.Buffer
	if err := SelfTestJSON(&b, selfTest()); err != nil {
		t.Fatal(err)
	}
	var got node.SelfTest
	if err := json.Unmarshal(b.Bytes(), &got); err != nil || !reflect.DeepEqual(got, selfTest()) {
		t.Errorf("%+v, %v", got, err)
	}
	var object struct{ Results []map[string]any }
	if err := json.Unmarshal(b.Bytes(), &object); err != nil {
		t.Fatal(err)
	}
	for _, r := range object.Results {
		for _, key := range []string{"variant", "family", "verdict"} {
			if _, ok := r[key].(string); !ok {
				t.Errorf("no %s in %v", key, r)
			}
		}
	}
}
