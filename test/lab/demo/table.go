package main

import (
	"fmt"
	"slices"
	"strings"

	"vxlan_exporter/test/lab/scrape"
)

// width is how wide a table may be; valueWidth is that of one value.
const (
	width      = 80
	valueWidth = 7
)

// table prints the series that differ between the scrapes, one column for each scrape.
func (s *stage) table(heads []string, scrapes ...scrape.Metrics) {
	moved := movedSeries(scrapes)
	if len(moved) == 0 {
		s.say("   nothing\n")
		return
	}
	for _, head := range heads {
		s.say("%*s", valueWidth, head)
	}
	s.say("\n")
	indent := strings.Repeat(" ", valueWidth*len(scrapes)+2)
	for _, series := range moved {
		for _, m := range scrapes {
			if v, ok := m[series]; ok {
				s.say("%*g", valueWidth, v)
			} else {
				s.say("%*s", valueWidth, "-")
			}
		}
		s.say("  %s\n", wrap(series, indent))
	}
}

// movedSeries lists the series of the node's own state that differ between scrapes, in order. Those about the
// exporter's own work move all the time and say nothing here.
func movedSeries(scrapes []scrape.Metrics) []string {
	var moved []string
	for _, m := range scrapes {
		for _, series := range m.Names() {
			if !telling(series) || slices.Contains(moved, series) {
				continue
			}
			for _, other := range scrapes {
				if v, ok := other[series]; !ok || v != m[series] {
					moved = append(moved, series)
					break
				}
			}
		}
	}
	slices.Sort(moved)
	return moved
}

func telling(series string) bool {
	if strings.Contains(series, "_timestamp_seconds") { // too wide, and told by the counter that moved
		return false
	}
	for _, prefix := range []string{
		"vxlan_host_", "vxlan_socket_", "vxlan_conntrack_flows", "vxlan_conntrack_nat",
		"vxlan_nat_", "vxlan_device_",
	} {
		if strings.HasPrefix(series, prefix) {
			return true
		}
	}
	return false
}

// wrap breaks a series after a label so that the line keeps to width when it begins at the indentation.
func wrap(series, indent string) string {
	var b strings.Builder
	column := len(indent)
	for i, part := range strings.SplitAfter(series, ",") {
		if i > 0 && column+len(part) > width {
			b.WriteString("\n" + indent + "  ")
			column = len(indent) + 2
		}
		fmt.Fprint(&b, part)
		column += len(part)
	}
	return b.String()
}
