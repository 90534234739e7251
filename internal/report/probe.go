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
func ProbeText(w io.Writer, n *node.Node, verdicts []diagnosis.PathVerdict, o TextOptions) error {
	t := newText(w, o)
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
		t.wrap("", "No peer was asked.")
	}
	tab := path(n)
	tab.limit()
	t.title(tab.Title)
	t.table(tab)
	if list, _ := steps(pathFindings(verdicts)); len(list) > 0 {
		t.title("What to type")
		for i, s := range list {
			t.step(i+1, s)
		}
	}
	return t.w.Flush()
}

func pathFindings(verdicts []diagnosis.PathVerdict) []diagnosis.Finding {
	var all []diagnosis.Finding
	for _, v := range verdicts {
		all = append(all, diagnosis.Finding{Device: v.Device, Severity: diagnosis.Warning, Remedies: v.Remedies})
	}
	return all
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
func path(n *node.Node) table {
	t := table{ID: "path", Title: "Probe of the path", Columns: []column{
		{Name: "peer"},
		{Name: "from"},
		{"plain", true},
		{"marked", true},
		{"finished", true},
		{"full", true},
		{"rtt", true},
		{Name: "verdict"},
	}}
	if n.Path == nil {
		return t
	}
	for _, p := range n.Path.Peers {
		for i, s := range p.Senders {
			full := ""
			if i == 0 {
				full = answered(p.Full)
			}
			finished := node.PathCount{Sent: s.PlainSoftware.Sent + s.MarkedSoftware.Sent, Answered: s.PlainSoftware.Answered +
				s.MarkedSoftware.Answered}
			row := cells(p.Peer.String(), s.Source.String()+" "+s.Interface, answered(s.Plain), answered(s.Marked),
				answered(finished), full, roundTrip(s.RoundTrips), string(s.State))
			row[len(row)-1].Tone = pathTone(s.State)
			t.Rows = append(t.Rows, row)
		}
	}
	note := func(name, value string) { t.Notes = append(t.Notes, pair{name, value}) }
	seen := map[string]bool{}
	for _, p := range n.Path.Peers {
		for _, s := range p.Senders {
			if s.State != node.PathOK && !seen[s.Reason] {
				seen[s.Reason] = true
				note(p.Peer.String()+" from "+s.Source.String(), s.Reason)
			}
		}
	}
	for _, s := range n.Path.Limits {
		note("", s)
	}
	for _, s := range n.Path.Unprobed {
		note("not asked", s)
	}
	if len(t.Rows) > 0 {
		note("",
			fmt.Sprintf("Answered of sent, with the mark %#x or without; finished: checksum made by the CPU. It stands for %s.",
				n.Path.Mark, diagnosis.PathStandsFor))
		note("asked",
			n.Path.Time.UTC().Format("2006-01-02 15:04:05 UTC")+", for "+n.Path.Duration.Round(time.Millisecond).String())
	}
	return t
}

func answered(c node.PathCount) string {
	if c.Sent == 0 {
		return "-"
	}
	return fmt.Sprintf("%d/%d", c.Answered, c.Sent)
}

// roundTrip is the median.
func roundTrip(all []time.Duration) string {
	if len(all) == 0 {
		return "-"
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2].Round(10 * time.Microsecond).String()
}
