package diagnosis

import (
	"cmp"
	"slices"
	"sort"
	"strconv"
	"strings"

	"vxlan_exporter/internal/node"
)

// judge holds one judgment while it is made.
type judge struct {
	now *node.Node

	ports    ports
	kernels  map[[2]string]condition // by variant and family
	marks    map[string]uint32       // the masquerade mark of a family
	unread   map[string]string       // why NAT rules of a family were not read
	carries  map[string]bool         // families that VXLAN is received over here
	counters []Counter
	paths    []PathVerdict
	verdicts []verdict // two per device; see devices

	state    State
	findings []Finding
}

// families of the underlay, in the order of reports.
var families = [...]string{node.IPv4, node.IPv6}

// variants that a device can be exposed to, in the order of reports.
var variants = [...]string{node.ZeroChecksum, node.OffloadedChecksum}

// newJudge sorts what was observed. nil is nothing observed.
func newJudge(n *node.Node) *judge {
	if n == nil {
		n = new(node.Node)
	}
	j := &judge{
		now: n, state: Healthy, ports: sortPorts(n), counters: Counters(n), unread: unreadRulesets(n.NATRules.Rulesets),
		kernels: map[[2]string]condition{}, marks: map[string]uint32{}, carries: map[string]bool{},
	}
	for _, r := range n.NATRules.Rulesets {
		if r.Mark != 0 {
			j.marks[r.Family] = r.Mark
		}
	}
	for _, v := range variants {
		release := byRelease(n.Kernel, v)
		for _, f := range families {
			j.kernels[[2]string{v, f}] = kernelCondition(n.Kernel, release, f, v)
		}
	}
	for _, d := range n.Devices {
		for _, f := range underlayFamilies(d) {
			j.carries[f] = j.carries[f] || d.Up && d.LinkNetns == nil
		}
	}
	for _, s := range n.Sockets {
		j.carries[s.Family] = true
	}
	j.paths = j.judgePaths()
	return j
}

func underlayFamilies(d node.Device) []string {
	four, six := d.Link.Underlay()
	return node.Port{IPv4: four, IPv6: six}.Families()
}

// carriesVXLAN reports whether outer VXLAN packets are sent or received in this namespace, over any family.
func (j *judge) carriesVXLAN() bool { return j.carries[node.IPv4] || j.carries[node.IPv6] }

// succeeded reports whether a collector answered and its answer can be relied on.
func (j *judge) succeeded(name string) bool { return j.now.Results[name].Succeeded() }

// because says why a collector gave nothing, as the end of a sentence.
func (j *judge) because(name string) string {
	switch r, ok := j.now.Results[name]; {
	case !ok:
		return "not looked at"
	case r.Error == "" && r.Status == node.Disabled:
		return "switched off"
	default:
		return cmp.Or(r.Error, string(r.Status))
	}
}

func (j *judge) counter(key string) Counter {
	if i := slices.IndexFunc(j.counters, func(c Counter) bool { return c.key == key }); i >= 0 {
		return j.counters[i]
	}
	return Counter{}
}

func (j *judge) add(f Finding) { j.findings = append(j.findings, f) }

// found returns the first finding of one of the codes; nil where there is none.
func (j *judge) found(codes ...Code) *Finding {
	i := slices.IndexFunc(j.findings, func(f Finding) bool { return slices.Contains(codes, f.Code) })
	if i < 0 {
		return nil
	}
	return &j.findings[i]
}

// raise makes the node's state at least as bad as s.
func (j *judge) raise(s State) {
	order := []State{Healthy, Unknown, Exposed, Failing}
	if slices.Index(order, s) > slices.Index(order, j.state) {
		j.state = s
	}
}

func (j *judge) diagnosis() Diagnosis {
	sort.SliceStable(j.findings,
		func(a, b int) bool { return j.findings[a].Severity.Rank() < j.findings[b].Severity.Rank() })
	return Diagnosis{State: j.state, Headline: j.headline(), Exposures: j.exposures(), Findings: j.findings}
}

// list joins names for a sentence: "a", "a and b", "a, b and 3 more".
func list(names []string) string {
	const most = 3
	switch n := len(names); {
	case n < 2:
		return strings.Join(names, "")
	case n > most:
		return strings.Join(names[:most-1], ", ") + " and " + strconv.Itoa(n-most+1) + " more"
	default:
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
}

// count writes a number of things; their plural is what with an s where it is not given.
func count(n uint64, what string, plural ...string) string {
	if n != 1 {
		what = append(plural, what+"s")[0]
	}
	return strconv.FormatUint(n, 10) + " " + what
}
