package selftest

import (
	"fmt"

	"vxlan_exporter/internal/kernel/capture"
	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/node"
)

// observation is one packet's way out: what was captured of it inside and outside the tunnel.
type observation struct {
	partial  bool            // the inner checksum was left to offload when VXLAN got the packet
	notReady bool            // the outer checksum was still unfinished at the far end
	outer    capture.Verdict // as it arrived there
}

// judge compares a packet that was NATed with one that was not. Everything that the failure needs must have been there;
// a packet that cannot show it proves nothing.
func judge(variant, family string, control, nat observation) node.SelfTestResult {
	r := node.SelfTestResult{Variant: variant, Family: family, Verdict: kernelversion.Unknown, Evidence: &node.Sums{
		Field: nat.outer.Field, Correct: nat.outer.Correct, SourcePort: nat.outer.Source.Port(), SourcePortPreNAT: natSource,
	}}
	wantControl := control.outer.Correct
	if variant == node.ZeroChecksum {
		wantControl = 0
	}
	switch {
	case !control.partial || !nat.partial:
		r.Reason = "the inner checksum was not left to offload, without which nothing can go wrong"
	case control.notReady || nat.notReady:
		r.Reason = "the far end got an unfinished checksum: offload could not be switched off on veth"
	case control.outer.Source.Port() != plainSource:
		r.Reason = fmt.Sprintf("without NAT the source port is %d, not %d", control.outer.Source.Port(), plainSource)
	case control.outer.Field != wantControl:
		r.Reason = fmt.Sprintf("without NAT the checksum is 0x%04x, not 0x%04x", control.outer.Field, wantControl)
	case nat.outer.Source.Port() != natPort:
		r.Reason = fmt.Sprintf("the packet was not NATed: its source port is %d, not %d", nat.outer.Source.Port(), natPort)
	case nat.outer.Field == nat.outer.Correct, variant == node.ZeroChecksum && nat.outer.Field == 0:
		r.Verdict = kernelversion.Fixed
	case nat.outer.Field == 0:
		r.Reason = "after NAT the packet has no checksum at all"
	default:
		r.Verdict = kernelversion.Affected
	}
	return r
}
