package selftest

import (
	"net/netip"
	"strings"
	"testing"

	"vxlan_exporter/internal/kernel/capture"
	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/node"
)

func port(n uint16) netip.AddrPort { return netip.AddrPortFrom(netip.Addr{}, n) }

func from(source, field, correct uint16) capture.Verdict {
	return capture.Verdict{Source: port(source), Field: field, Correct: correct}
}

func TestJudge(t *testing.T) {
	good := func(field uint16) observation {
		return observation{partial: true, outer: from(plainSource, field, 0x1234)}
	}
	nated := func(field uint16) observation {
		return observation{partial: true, outer: from(natPort, field, 0x4321)}
	}
	change := func(o observation, f func(*observation)) observation { f(&o); return o }
	for name, c := range map[string]struct {
		variant      string
		control, nat observation
		want, reason string
	}{
		"A fixed":       {node.ZeroChecksum, good(0), nated(0), kernelversion.Fixed, ""},
		"A summed":      {node.ZeroChecksum, good(0), nated(0x4321), kernelversion.Fixed, ""},
		"A affected":    {node.ZeroChecksum, good(0), nated(0xffff), kernelversion.Affected, ""},
		"A other value": {node.ZeroChecksum, good(0), nated(0x2713), kernelversion.Affected, ""},
		"A not off": {
			node.ZeroChecksum, good(0x1234), nated(0), kernelversion.Unknown,
			"without NAT the checksum is 0x1234, not 0x0000",
		},
		"B fixed":    {node.OffloadedChecksum, good(0x1234), nated(0x4321), kernelversion.Fixed, ""},
		"B affected": {node.OffloadedChecksum, good(0x1234), nated(0x1111), kernelversion.Affected, ""},
		"B none":     {node.OffloadedChecksum, good(0x1234), nated(0), kernelversion.Unknown, "no checksum at all"},
		"B bad without NAT": {
			node.OffloadedChecksum, good(0x1235), nated(0x4321), kernelversion.Unknown,
			"without NAT the checksum is 0x1235, not 0x1234",
		},
		"B not on": {
			node.OffloadedChecksum, good(0), nated(0x4321), kernelversion.Unknown,
			"without NAT the checksum",
		},
		"not NATed": {node.OffloadedChecksum, good(0x1234), good(0x1234), kernelversion.Unknown, "not NATed"},
		"other port NAT": {
			node.ZeroChecksum, good(0), change(nated(0), func(o *observation) { o.outer.Source = port(natSource) }),
			kernelversion.Unknown, "not NATed",
		},
		"control NATed": {
			node.ZeroChecksum, change(good(0), func(o *observation) { o.outer.Source = port(natPort) }), nated(0),
			kernelversion.Unknown, "without NAT the source port",
		},
		"control not partial": {
			node.ZeroChecksum, change(good(0), func(o *observation) { o.partial = false }), nated(0), kernelversion.Unknown,
			"not left to offload",
		},
		"not partial": {
			node.ZeroChecksum, good(0), change(nated(0), func(o *observation) { o.partial = false }), kernelversion.Unknown,
			"not left to offload",
		},
		"unfinished": {
			node.OffloadedChecksum, good(0x1234), change(nated(1), func(o *observation) { o.notReady = true }),
			kernelversion.Unknown, "unfinished",
		},
	} {
		got := judge(c.variant, node.IPv4, c.control, c.nat)
		if got.Verdict != c.want || !strings.Contains(got.Reason, c.reason) ||
			(got.Reason == "") != (c.want != kernelversion.Unknown) {
			t.Errorf("%s: %s (%s), want %s (%s)", name, got.Verdict, got.Reason, c.want, c.reason)
		}
		want := node.Sums{
			Field: c.nat.outer.Field, Correct: c.nat.outer.Correct, SourcePort: c.nat.outer.Source.Port(),
			SourcePortPreNAT: natSource,
		}
		if got.Evidence == nil || *got.Evidence != want {
			t.Errorf("%s: evidence %+v, want %+v", name, got.Evidence, want)
		}
	}
}
