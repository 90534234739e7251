package selftest

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/node"
)

// lineLen is the width of the text report.
const lineLen = 80

// Print writes t as text for a person, at most 80 columns wide.
func Print(w io.Writer, t node.SelfTest) error {
	var b strings.Builder
	fmt.Fprintf(&b, "What NAT does to the outer checksum of VXLAN on this kernel\n")
	fmt.Fprintf(&b, "kernel %s, %s\n\n", t.Release, t.Time.UTC().Format(time.DateTime+" MST"))
	const row = "%-19s %-9s %-9s %-7s %-8s %-11s %s\n"
	fmt.Fprintf(&b, row, "VARIANT", "UNDERLAY", "VERDICT", "FIELD", "CORRECT", "SOURCE PORT", "BEFORE NAT")
	for _, r := range t.Results {
		field, correct, port, before := "-", "-", "-", "-"
		if e := r.Evidence; e != nil {
			field, correct = fmt.Sprintf("0x%04x", e.Field), fmt.Sprintf("0x%04x", e.Correct)
			port, before = fmt.Sprint(e.SourcePort), fmt.Sprint(e.SourcePortPreNAT)
		}
		fmt.Fprintf(&b, row, r.Variant, r.Family, r.Verdict, field, correct, port, before)
	}
	b.WriteString("\n")
	for _, r := range unknowns(t.Results) {
		paragraph(&b, r+".")
	}
	for _, variant := range []string{node.ZeroChecksum, node.OffloadedChecksum} {
		if text := meaning(t.Results, variant); text != "" {
			paragraph(&b, text)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// unknowns says for what there is no verdict and why, each reason once.
func unknowns(results []node.SelfTestResult) []string {
	var reasons []string
	about := map[string][]string{}
	for _, r := range results {
		if r.Verdict != kernelversion.Unknown {
			continue
		}
		if about[r.Reason] == nil {
			reasons = append(reasons, r.Reason)
		}
		about[r.Reason] = append(about[r.Reason], r.Variant+" over "+r.Family)
	}
	for i, reason := range reasons {
		reasons[i] = "unknown, " + strings.Join(about[reason], ", ") + ": " + reason
	}
	return reasons
}

// meaning says what a person has to know of the verdicts on one variant.
func meaning(results []node.SelfTestResult, variant string) string {
	seen := map[string]bool{}
	for _, r := range results {
		if r.Variant == variant {
			seen[r.Verdict] = true
		}
	}
	switch {
	case variant == node.ZeroChecksum && seen[kernelversion.Affected]:
		return "zero_checksum: devices made with noudpcsum send no outer checksum, and NAT turns that into a wrong one. " +
			"Receivers drop such packets."
	case variant == node.ZeroChecksum && seen[kernelversion.Fixed]:
		return "zero_checksum: devices made with noudpcsum send no outer checksum, and NAT leaves it so."
	case variant == node.OffloadedChecksum && seen[kernelversion.Affected]:
		return "offloaded_checksum: devices with udpcsum (the default) send a wrong outer checksum when the outer packet " +
			"is NATed and the checksum of the inner one is left to offload. Receivers drop such packets. No kernel release is " +
			"known to be fixed: keep the outer packet from being NATed, or switch tx-checksum-ip-generic off on the device."
	case variant == node.OffloadedChecksum && seen[kernelversion.Fixed]:
		return "offloaded_checksum: devices with udpcsum (the default) send a right outer checksum also when the outer " +
			"packet is NATed."
	default:
		return ""
	}
}

// paragraph writes text in lines of at most lineLen characters.
func paragraph(b *strings.Builder, text string) {
	used := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case used == 0:
		case used+1+len(word) > lineLen:
			b.WriteString("\n  ")
			used = 2
		default:
			b.WriteString(" ")
			used++
		}
		b.WriteString(word)
		used += len(word)
	}
	b.WriteString("\n")
}

// PrintJSON writes t as one indented JSON object; its list is called results.
func PrintJSON(w io.Writer, t node.SelfTest) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(t)
}
