package report

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"vxlan_exporter/internal/node"
)

// maxSamples is how many captured bad packets are shown.
const maxSamples = 8

// wire shows what the packet capture saw; nothing where it is off.
func wire(n *node.Node) *table {
	t := newTable("wire", "Packets on the wire", "direction", "family", "verdict", ">packets")
	w := n.Wire
	if w == nil {
		return t
	}
	for _, c := range w.Packets {
		if c.Packets == 0 {
			continue
		}
		row := t.row(c.Direction, c.Family, c.Verdict, strconv.FormatFloat(c.Packets, 'f', 0, 64))
		if c.Verdict == "bad" {
			row[2].Tone = bad
		}
	}
	for _, p := range w.Samples[:min(len(w.Samples), maxSamples)] {
		t.note("bad", fmt.Sprintf("%s %s %s to %s: %s, %s", p.Time.UTC().Format("15:04:05.000"), p.Direction, p.Source,
			p.Destination, p.Variant, p.Sums))
	}
	watched := cmp.Or(strings.Join(w.Interfaces, ", "), "no interface")
	t.note("watched", fmt.Sprintf("%s; %s packets captured, %s lost", watched, number(w.Captured), number(w.Lost)))
	return t
}
