package report

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

func TestWireSection(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	n := &node.Node{Schema: node.Schema, Time: at, Wire: &node.Wire{
		Interfaces: []string{"eth0"}, SampleRatio: 1, Captured: 1012, Lost: 2,
		Packets: []node.WireCount{
			{Family: "ipv4", Direction: "in", Verdict: "bad", Packets: 12},
			{Family: "ipv4", Direction: "in", Verdict: "ok"},
		},
		Samples: []node.BadPacket{{
			Time: at.Add(-time.Second), Interface: "eth0", Direction: "in", Variant: node.OffloadedChecksum,
			Source: netip.MustParseAddrPort("10.0.0.2:38876"), Destination: netip.MustParseAddrPort("10.0.0.1:8472"),
			Sums: node.Sums{Field: 0x7295, Correct: 0x9a08, SourcePort: 38876, SourcePortPreNAT: 59513},
		}},
	}}
	text := func(n *node.Node) string {
		var b bytes.Buffer
		if err := Text(&b, n, diagnosis.Judge(n), false); err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(b.String()), " ")
	}
	got := text(n)
	for _, want := range []string{
		"PACKETS ON THE WIRE", "in ipv4 bad 12", "1,012 packets captured, 2 lost",
		"11:59:59.000 in 10.0.0.2:38876 to 10.0.0.1:8472: offloaded_checksum",
		"0x7295 instead of 0x9a08, source port 59513 before NAT",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("without %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "in ipv4 ok 0") {
		t.Error("a verdict that never came")
	}
	n.Wire = nil
	if strings.Contains(text(n), "ON THE WIRE") {
		t.Error("a section although the probe is off")
	}
}
