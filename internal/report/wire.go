package report

import (
	"fmt"
	"strconv"
	"strings"

	"vxlan_exporter/internal/node"
)

// maxSamples is how many captured bad packets are shown.
const maxSamples = 8

// wire shows what the packet capture saw; nothing where it is off.
func wire(n *node.Node) table {
	t := table{ID: "wire", Title: "Packets on the wire", Columns: []column{
		{Name: "direction"}, {Name: "family"}, {Name: "verdict"}, {"packets", true},
	}}
	w := n.Wire
	if w == nil {
		return t
	}
	for _, c := range w.Packets {
		if c.Packets == 0 {
			continue
		}
		row := cells(c.Direction, c.Family, c.Verdict, strconv.FormatFloat(c.Packets, 'f', 0, 64))
		if c.Verdict == "bad" {
			row[2].Tone = bad
		}
		t.Rows = append(t.Rows, row)
	}
	for _, p := range w.Samples[:min(len(w.Samples), maxSamples)] {
		value := fmt.Sprintf("%s %s %s to %s: %s, checksum %#04x instead of %#04x", p.Time.UTC().Format("15:04:05.000"),
			p.Direction, p.Source, p.Destination,
			p.Variant, p.Field, p.Correct)
		if p.SourcePortPreNAT != 0 {
			value += ", source port " + strconv.Itoa(int(p.SourcePortPreNAT)) + " before NAT"
		}
		t.Notes = append(t.Notes, pair{"bad", value})
	}
	watched := strings.Join(w.Interfaces, ", ")
	if watched == "" {
		watched = "no interface"
	}
	t.Notes = append(t.Notes, pair{"watched", fmt.Sprintf("%s; %s packets captured, %s lost", watched, number(w.Captured),
		number(w.Lost))})
	return t
}
