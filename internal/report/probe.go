package report

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

// ProbeJSON writes the verdicts of a probe with what was answered.
func ProbeJSON(w io.Writer, n *node.Node, verdicts []diagnosis.PathVerdict) error {
	return writeJSON(w, struct {
		Schema   int                     `json:"schema"`
		State    node.PathState          `json:"state"`
		Verdicts []diagnosis.PathVerdict `json:"verdicts"`
		Path     *node.Path              `json:"path"`
	}{node.Schema, diagnosis.PathState(verdicts), verdicts, n.Path})
}

// ProbeText writes the same for a terminal: the verdict, a line for each peer and sender, what to type.
func ProbeText(w io.Writer, n *node.Node, verdicts []diagnosis.PathVerdict, color bool) error {
	t := newText(w, color)
	state := diagnosis.PathState(verdicts)
	t.line(t.paint(pathTone(state), strings.ToUpper(pathWords(state)), true))
	for _, v := range verdicts {
		line := v.Device + " " + v.Family + ": " + pathWords(v.State)
		if v.Variant != "" {
			line += " (" + v.Variant + ")"
		}
		t.wrap("", line+", "+v.Reason+".")
	}
	if len(n.Path.Peers) == 0 {
		why := "."
		if len(n.Path.Unprobed) == 0 {
			why = ": there is no VXLAN device in this network namespace."
		}
		t.wrap("", "No peer was asked"+why)
	}
	tab := path(n)
	tab.limit()
	t.title(tab.Title)
	t.table(tab)
	var findings []diagnosis.Finding
	for _, v := range verdicts {
		findings = append(findings, diagnosis.Finding{Device: v.Device, Severity: diagnosis.Warning, Remedies: v.Remedies})
	}
	list, _ := steps(findings)
	t.steps(list)
	return t.w.Flush()
}

func pathWords(s node.PathState) string {
	return map[node.PathState]string{
		node.PathOK: "checksums survive", node.PathNAT: "NAT spoils checksums",
		node.PathOffload: "offloaded checksums are lost",
		node.PathMTU:     "full packets are lost", node.PathUnreachable: "no answer", node.PathUnknown: "could not tell",
	}[s]
}

func pathTone(s node.PathState) tone {
	switch s {
	case node.PathOK:
		return good
	case node.PathNAT, node.PathOffload:
		return bad
	default:
		return warn
	}
}

// path is the last round of the probe; nothing where there was none. The columns count answers of packets.
func path(n *node.Node) *table {
	t := newTable("path", "Probe of the path",
		"peer", "from", ">plain", ">marked", ">finished", ">full", ">rtt", "verdict")
	if n.Path == nil {
		return t
	}
	noted := map[string]bool{}
	for _, p := range n.Path.Peers {
		for i, s := range p.Senders {
			full := ""
			if i == 0 {
				full = answered(p.Full)
			}
			row := t.row(p.Peer.String(), s.Source.String()+" "+s.Interface, answered(s.Plain), answered(s.Marked),
				answered(s.PlainSoftware, s.MarkedSoftware), full, roundTrip(s.RoundTrips), string(s.State))
			row[len(row)-1].Tone = pathTone(s.State)
			if s.State != node.PathOK && !noted[s.Reason] {
				noted[s.Reason] = true
				t.note(p.Peer.String()+" from "+s.Source.String(), s.Reason)
			}
		}
	}
	for _, s := range n.Path.Limits {
		t.note("", s)
	}
	for _, s := range n.Path.Unprobed {
		t.note("not asked", s)
	}
	if len(t.Rows) > 0 {
		t.note("", fmt.Sprintf("Answered of sent, with the mark %#x or without; finished: checksum made by the CPU. It "+
			"stands for %s.", n.Path.Mark, diagnosis.PathStandsFor))
		t.note("asked", n.Path.Time.UTC().Format(timeFormat)+", for "+n.Path.Duration.Round(time.Millisecond).String())
	}
	return t
}

func answered(counts ...node.PathCount) string {
	var sum node.PathCount
	for _, c := range counts {
		sum.Sent, sum.Answered = sum.Sent+c.Sent, sum.Answered+c.Answered
	}
	if sum.Sent == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", sum.Answered, sum.Sent)
}

// roundTrip is the median.
func roundTrip(all []time.Duration) string {
	if len(all) == 0 {
		return "-"
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2].Round(10 * time.Microsecond).String()
}
