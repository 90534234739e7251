package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/node"
)

// SelfTestJSON writes the result of a self-test as one JSON object; its list is called results.
func SelfTestJSON(w io.Writer, r node.SelfTest) error { return writeJSON(w, r) }

// SelfTestText writes it for a person, at most 80 columns wide.
func SelfTestText(w io.Writer, r node.SelfTest) error {
	t := newText(w, false)
	t.line("What NAT does to the outer checksum of VXLAN on this kernel")
	t.line("kernel " + r.Release + ", " + r.Time.UTC().Format(time.DateTime+" MST"))
	t.line("")
	row := func(columns ...any) { t.line(fmt.Sprintf("%-19s %-9s %-9s %-7v %-8v %-11v %v", columns...)) }
	row("VARIANT", "UNDERLAY", "VERDICT", "FIELD", "CORRECT", "SOURCE PORT", "BEFORE NAT")
	var reasons []string // why there is no verdict
	about := map[string][]string{}
	for _, r := range r.Results {
		if e := r.Evidence; e != nil {
			field, correct := fmt.Sprintf("0x%04x", e.Field), fmt.Sprintf("0x%04x", e.Correct)
			row(r.Variant, r.Family, r.Verdict, field, correct, e.SourcePort, e.SourcePortPreNAT)
		} else {
			row(r.Variant, r.Family, r.Verdict, "-", "-", "-", "-")
		}
		if r.Verdict == kernelversion.Unknown {
			if about[r.Reason] == nil {
				reasons = append(reasons, r.Reason)
			}
			about[r.Reason] = append(about[r.Reason], r.Variant+" over "+r.Family)
		}
	}
	t.line("")
	for _, reason := range reasons {
		t.wrapFirst("", "  ", "unknown, "+strings.Join(about[reason], ", ")+": "+reason+".")
	}
	said := ""
	for _, m := range meanings {
		if m.variant != said && slices.ContainsFunc(r.Results, func(r node.SelfTestResult) bool {
			return r.Variant == m.variant && r.Verdict == m.verdict
		}) {
			t.wrapFirst("", "  ", m.variant+": "+m.text)
			said = m.variant
		}
	}
	return t.w.Flush()
}

// meanings are what a person has to know of a verdict in any family, the worse one first.
var meanings = [...]struct{ variant, verdict, text string }{
	{node.ZeroChecksum, kernelversion.Affected, "devices made with noudpcsum send no outer checksum, and NAT turns that " +
		"into a wrong one. Receivers drop such packets."},
	{node.ZeroChecksum, kernelversion.Fixed, "devices made with noudpcsum send no outer checksum, and NAT leaves it so."},
	{node.OffloadedChecksum, kernelversion.Affected, "devices with udpcsum (the default) send a wrong outer checksum " +
		"when the outer packet is NATed and the checksum of the inner one is left to offload. Receivers drop such packets. " +
		"No kernel release is known to be fixed: keep the outer packet from being NATed, or switch tx-checksum-ip-generic " +
		"off on the device."},
	{node.OffloadedChecksum, kernelversion.Fixed, "devices with udpcsum (the default) send a right outer checksum also " +
		"when the outer packet is NATed."},
}
