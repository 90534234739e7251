package report

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/kernel/kernelversion"
	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

func devices(n *node.Node, d diagnosis.Diagnosis) *table {
	t := newTable("devices", "VXLAN devices", "device", ">port", "underlay", "udpcsum", "tx csum", "A zero", "B offload")
	state := map[[2]string]diagnosis.State{}
	for _, e := range d.Exposures {
		state[[2]string{e.Device, e.Variant}] = e.State
	}
	of := func(d node.Device) (a, b diagnosis.State) {
		return state[[2]string{d.Name, node.ZeroChecksum}], state[[2]string{d.Name, node.OffloadedChecksum}]
	}
	// The worst first, else in the kernel's order.
	threat := func(d node.Device) int {
		order := []diagnosis.State{diagnosis.Clear, diagnosis.Unknown, diagnosis.Exposed, diagnosis.Active}
		a, b := of(d)
		return max(slices.Index(order, a), slices.Index(order, b))
	}
	list := slices.Clone(n.Devices)
	sort.SliceStable(list, func(i, j int) bool { return threat(list[i]) > threat(list[j]) })
	for _, d := range list[:min(len(list), maxDevices)] {
		a, b := of(d)
		row := t.row(d.Name, strconv.Itoa(int(d.Port)), underlay(d), udpcsum(d), txcsum(d), string(a), string(b))
		row[5].Tone, row[6].Tone = stateTone(a), stateTone(b)
	}
	if more := len(list) - maxDevices; more > 0 {
		t.note("", fmt.Sprintf("and %d more, none worse than these; the JSON report has all", more))
	}
	if len(list) == 0 {
		t.note("", "none seen")
	}
	return t
}

func underlay(d node.Device) string {
	s := d.Underlay
	switch four, six := d.Link.Underlay(); {
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

func flows(n *node.Node) *table {
	t := newTable("flows", "Flows to VXLAN ports",
		"family", ">port", ">tracked", ">source NATed", ">dest. NATed", ">NATed since start")
	for _, p := range n.Conntrack.Ports {
		row := t.row(p.Family, strconv.Itoa(int(p.Port)), number(p.Flows), number(p.SNAT), number(p.DNAT), number(p.SeenSNAT))
		if p.SNAT > 0 {
			row[3].Tone = bad
		}
		if p.DNAT > 0 {
			row[4].Tone = warn
		}
	}
	if len(t.Rows) == 0 {
		t.note("", "not seen: "+outcome(n, "conntrack"))
		return t
	}
	for _, f := range n.Conntrack.NATFlows[:min(3, len(n.Conntrack.NATFlows))] {
		t.note("NATed", f.String())
	}
	if c := n.Conntrack; c.Entries != nil && c.Limit != nil {
		t.note("table", number(*c.Entries)+" of "+number(*c.Limit)+" entries used")
	}
	return t
}

// outcome says in a few words how a collector fared.
func outcome(n *node.Node, name string) string {
	switch r, ok := n.Results[name]; {
	case !ok:
		return "not read"
	case r.Error == "" && r.Status == node.None:
		return "this node has none"
	default:
		return cmp.Or(r.Error, string(r.Status))
	}
}

func rules(n *node.Node) *table {
	t := newTable("rules", "NAT rules", "family", "backend", "read", "masquerade mark", "mark", "random-fully")
	for _, r := range n.NATRules.Rulesets {
		state, mark, random := string(r.MarkState), "-", "-"
		tone := map[natrules.MarkState]tone{
			natrules.MarkCleared: good, natrules.MarkKept: warn, natrules.MarkBypassed: warn, natrules.MarkUnknown: warn,
		}[r.MarkState]
		if r.Status != node.OK {
			state, tone = "-", faint
		}
		if r.Mark != 0 {
			mark = fmt.Sprintf("%#x", r.Mark)
		}
		if r.RandomFully != nil {
			random = map[bool]string{true: "yes", false: "no"}[*r.RandomFully]
		}
		t.row(r.Family, r.Backend, string(r.Status), state, mark, random)[3].Tone = tone
	}
	for _, o := range n.NATRules.Outer {
		t.note(o.Family+" port "+strconv.Itoa(int(o.Port)), outer(o))
	}
	if len(t.Rows) == 0 && len(t.Notes) == 0 {
		t.note("", "not seen: "+outcome(n, "natrules"))
	}
	return t
}

func outer(o natrules.Outer) string {
	s := cmp.Or(map[natrules.Change]string{
		natrules.NoChange: "is left alone", natrules.PortChange: "gets a new source port",
		natrules.AddrChange: "gets a new source address",
	}[o.Change], "may be NATed")
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

func kernel(n *node.Node) *table {
	t := newTable("kernel", "Kernel", "variant", "verdict", "evidence")
	if n.Kernel.Release != "" {
		t.note("release", strings.TrimSpace(n.Kernel.Release+" "+n.Kernel.Version))
	}
	if name := n.Kernel.OS["PRETTY_NAME"]; name != "" {
		t.note("system", name)
	}
	for _, b := range diagnosis.KernelBugs(n.Kernel) {
		// as the variants are called in conversation
		name := map[string]string{node.ZeroChecksum: "A ", node.OffloadedChecksum: "B "}[b.Variant] + b.Variant
		row := t.row(name, b.Verdict, b.Evidence)
		row[1].Tone = warn
		if b.Verdict == kernelversion.Fixed {
			row[1].Tone = good
		}
		if b.Reason != "" {
			t.note(name+" by "+b.Evidence, b.Reason)
		}
	}
	if e := n.Kernel.SelfTestError; e != "" {
		t.note("self-test not used", e)
	}
	return t
}

func counters(n *node.Node) *table {
	t := newTable("counters", "Counters", "counter", ">total", ">rise", ">per second")
	span, why, ok := diagnosis.Interval(n)
	for _, c := range diagnosis.Counters(n) {
		row := t.row(strings.TrimSpace(c.Name+" "+c.Detail), "not known", "-", "-")
		if c.Total != nil {
			row[1].Text = number(*c.Total)
		} else {
			row[1].Tone = faint
		}
		row[2].Tone, row[3].Tone = faint, faint
		switch {
		case c.Delta == nil && c.Reset:
			row[2].Text = "reset"
		case c.Delta == nil:
		case *c.Delta == 0:
			row[2].Text, row[3].Text = "0", "0"
		default:
			tone := plain
			if c.Alarming() {
				tone = bad
			}
			row[2], row[3] = cell{"+" + number(*c.Delta), tone}, cell{strconv.FormatFloat(c.PerSecond, 'f', 1, 64), tone}
		}
	}
	if ok {
		t.note("", fmt.Sprintf("rise: over %.3g s", span.Seconds()))
		return t
	}
	t.note("", "no rates: "+why)
	t.Columns = t.Columns[:2]
	for i := range t.Rows {
		t.Rows[i] = t.Rows[i][:2]
	}
	return t
}

func missing(n *node.Node) *table {
	t := newTable("missing", "Not read", "collector", "outcome", "what is lost")
	for _, name := range slices.Sorted(maps.Keys(n.Results)) {
		if r := n.Results[name]; diagnosis.Missing(name, r) {
			t.row(name, string(r.Status), diagnosis.Lost(name))[1].Tone = warn
			if r.Error != "" {
				t.note(name, strings.TrimPrefix(r.Error, name+": "))
			}
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
