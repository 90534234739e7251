package report

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

func cells(texts ...string) []cell {
	row := make([]cell, 0, len(texts))
	for _, t := range texts {
		row = append(row, cell{Text: t})
	}
	return row
}

func devices(n *node.Node, d diagnosis.Diagnosis) table {
	t := table{ID: "devices", Title: "VXLAN devices", Columns: []column{
		{Name: "device"},
		{Name: "port", Right: true},
		{Name: "underlay"},
		{Name: "udpcsum"},
		{Name: "tx csum"},
		{Name: "A zero"},
		{Name: "B offload"},
	}}
	state := map[string]diagnosis.State{}
	for _, e := range d.Exposures {
		state[e.Device+"\x00"+e.Variant] = e.State
	}
	list := worstFirst(n, state)
	for _, dev := range list[:min(len(list), maxDevices)] {
		row := cells(dev.Name, strconv.Itoa(int(dev.Port)), underlay(dev), udpcsum(dev), txcsum(dev))
		for _, v := range []string{node.ZeroChecksum, node.OffloadedChecksum} {
			s := state[dev.Name+"\x00"+v]
			row = append(row, cell{string(s), stateTone(s)})
		}
		t.Rows = append(t.Rows, row)
	}
	if more := len(list) - maxDevices; more > 0 {
		t.Notes = append(t.Notes, pair{"", fmt.Sprintf("and %d more, none worse than these; the JSON report has all", more)})
	}
	if len(list) == 0 {
		t.Notes = append(t.Notes, pair{"", "none seen"})
	}
	return t
}

func underlay(d node.Device) string {
	four, six := d.Link.Underlay()
	s := d.Underlay
	switch {
	case four && six:
		s += " ipv4+ipv6"
	case six:
		s += " ipv6"
	default:
		s += " ipv4"
	}
	if !d.Up {
		s += " (down)"
	}
	return strings.TrimSpace(s)
}

// udpcsum is the flag that matters on the device's underlay.
func udpcsum(d node.Device) string {
	_, six := d.Link.Underlay()
	switch {
	case d.IsExternal():
		return "external"
	case six && d.UDP6ZeroChecksumTx != nil && *d.UDP6ZeroChecksumTx:
		return "off"
	case six:
		return "on"
	case d.UDPChecksum == nil:
		return "not told"
	default:
		return onOff(*d.UDPChecksum)
	}
}

func txcsum(d node.Device) string {
	f, ok := d.Features.Get("tx-checksum-ip-generic")
	switch {
	case !ok:
		return "not read"
	case !f.Active && f.Requested:
		return "off, wanted"
	default:
		return onOff(f.Active)
	}
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

func flows(n *node.Node) table {
	t := table{ID: "flows", Title: "Flows to VXLAN ports", Columns: []column{
		{Name: "family"},
		{"port", true},
		{"tracked", true},
		{"source NATed", true},
		{"dest. NATed", true},
		{"NATed since start", true},
	}}
	for _, p := range n.Conntrack.Ports {
		row := cells(p.Family, strconv.Itoa(int(p.Port)), number(p.Flows), number(p.SNAT), number(p.DNAT), number(p.SeenSNAT))
		if p.SNAT > 0 {
			row[3].Tone = bad
		}
		if p.DNAT > 0 {
			row[4].Tone = warn
		}
		t.Rows = append(t.Rows, row)
	}
	if len(t.Rows) == 0 {
		t.Notes = append(t.Notes, pair{"", "not seen: " + outcome(n, "conntrack")})
		return t
	}
	for _, f := range n.Conntrack.NATFlows[:min(3, len(n.Conntrack.NATFlows))] {
		t.Notes = append(t.Notes, pair{"NATed", fmt.Sprintf("%s to %s left as %s to %s", f.Source, f.Destination, f.NATSource,
			f.NATDestination)})
	}
	if c := n.Conntrack; c.Entries != nil && c.Limit != nil {
		t.Notes = append(t.Notes, pair{"table", number(*c.Entries) + " of " + number(*c.Limit) + " entries used"})
	}
	return t
}

// outcome says in a few words how a collector fared.
func outcome(n *node.Node, name string) string {
	r, ok := n.Results[name]
	switch {
	case !ok:
		return "not read"
	case r.Error != "":
		return r.Error
	case r.Status == node.None:
		return "this node has none"
	default:
		return string(r.Status)
	}
}

func rules(n *node.Node) table {
	t := table{ID: "rules", Title: "NAT rules", Columns: []column{
		{Name: "family"},
		{Name: "backend"},
		{Name: "read"},
		{Name: "masquerade mark"},
		{Name: "mark"},
		{Name: "random-fully"},
	}}
	for _, r := range n.NATRules.Rulesets {
		guard, mark, random := string(r.MarkState), "-", "-"
		if r.Status != node.OK {
			guard = "-"
		}
		if r.Mark != 0 {
			mark = fmt.Sprintf("%#x", r.Mark)
		}
		if r.RandomFully != nil {
			random = map[bool]string{true: "yes", false: "no"}[*r.RandomFully]
		}
		row := cells(r.Family, r.Backend, string(r.Status), guard, mark, random)
		switch r.MarkState {
		case natrules.MarkCleared:
			row[3].Tone = good
		case natrules.MarkKept, natrules.MarkBypassed, natrules.MarkUnknown:
			row[3].Tone = warn
		}
		if guard == "-" {
			row[3].Tone = faint
		}
		t.Rows = append(t.Rows, row)
	}
	for _, o := range n.NATRules.Outer {
		t.Notes = append(t.Notes, pair{o.Family + " port " + strconv.Itoa(int(o.Port)), outer(o)})
	}
	if len(t.Rows) == 0 && len(t.Notes) == 0 {
		t.Notes = append(t.Notes, pair{"", "not seen: " + outcome(n, "natrules")})
	}
	return t
}

func outer(o natrules.Outer) string {
	s := map[natrules.Change]string{
		natrules.NoChange: "is left alone", natrules.PortChange: "gets a new source port",
		natrules.AddrChange: "gets a new source address",
	}[o.Change]
	if s == "" {
		s = "may be NATed"
	}
	s = "a marked packet " + s + " (" + string(o.Why) + ")"
	var named []string
	for _, f := range o.Senders {
		if f.Change != natrules.NoChange {
			named = append(named, f.Sender)
		}
	}
	if len(named) > 0 && len(named) < len(o.Senders) {
		s += ", of " + strings.Join(named, ", ")
	}
	if o.Rule != nil {
		s += ": " + strings.TrimPrefix(o.Rule.Table+": ", ": ") + o.Rule.Text
	}
	return s
}

func kernel(n *node.Node) table {
	t := table{ID: "kernel", Title: "Kernel", Columns: []column{{Name: "variant"}, {Name: "verdict"}, {Name: "evidence"}}}
	for _, b := range diagnosis.KernelBugs(n.Kernel) {
		name := letter(b.Variant) + " " + b.Variant
		row := cells(name, b.Verdict, b.Evidence)
		row[1].Tone = warn
		if b.Verdict == kernelversion.Fixed {
			row[1].Tone = good
		}
		t.Rows = append(t.Rows, row)
		if b.Reason != "" {
			t.Notes = append(t.Notes, pair{name + " by " + b.Evidence, b.Reason})
		}
	}
	if e := n.Kernel.SelfTestError; e != "" {
		t.Notes = append(t.Notes, pair{"self-test not used", e})
	}
	if name := n.Kernel.OS["PRETTY_NAME"]; name != "" {
		t.Notes = append([]pair{{"system", name}}, t.Notes...)
	}
	if n.Kernel.Release != "" {
		t.Notes = append([]pair{{"release", strings.TrimSpace(n.Kernel.Release + " " + n.Kernel.Version)}}, t.Notes...)
	}
	return t
}

// letter is how the failure's variants are called in conversation.
func letter(variant string) string {
	if variant == node.ZeroChecksum {
		return "A"
	}
	return "B"
}

func counters(n *node.Node) table {
	t := table{ID: "counters", Title: "Counters"}
	span, why, ok := diagnosis.Interval(n)
	t.Columns = []column{{Name: "counter"}, {"total", true}}
	if ok {
		t.Columns = append(t.Columns, column{"rise", true}, column{"per second", true})
	} else {
		t.Notes = append(t.Notes, pair{"", "no rates: " + why})
	}
	for _, c := range diagnosis.Counters(n) {
		total := cell{"not known", faint}
		if c.Total != nil {
			total = cell{Text: number(*c.Total)}
		}
		row := []cell{{Text: strings.TrimSpace(c.Name + " " + c.Detail)}, total}
		if ok {
			row = append(row, rise(c)...)
		}
		t.Rows = append(t.Rows, row)
	}
	if ok {
		t.Notes = append(t.Notes, pair{"", fmt.Sprintf("rise: over %.3g s", span.Seconds())})
	}
	return t
}

func rise(c diagnosis.Counter) []cell {
	switch {
	case c.Delta == nil && c.Reset:
		return []cell{{"reset", faint}, {"-", faint}}
	case c.Delta == nil:
		return []cell{{"-", faint}, {"-", faint}}
	case *c.Delta == 0:
		return []cell{{"0", faint}, {"0", faint}}
	}
	tone := plain
	if c.Alarming() {
		tone = bad
	}
	return []cell{{"+" + number(*c.Delta), tone}, {strconv.FormatFloat(c.PerSecond, 'f', 1, 64), tone}}
}

func missing(n *node.Node) table {
	t := table{ID: "missing", Title: "Not read", Columns: []column{
		{Name: "collector"},
		{Name: "outcome"},
		{Name: "what is lost"},
	}}
	for _, name := range slices.Sorted(maps.Keys(n.Results)) {
		r := n.Results[name]
		if !diagnosis.Missing(name, r) {
			continue
		}
		t.Rows = append(t.Rows, []cell{{Text: name}, {string(r.Status), warn}, {Text: diagnosis.Lost(name)}})
		if r.Error != "" {
			t.Notes = append(t.Notes, pair{name, strings.TrimPrefix(r.Error, name+": ")})
		}
	}
	return t
}

// number writes n with thin groups of three digits: 1234567 is 1,234,567.
func number(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
