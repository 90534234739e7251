package diagnosis

import (
	"sort"
	"strconv"
	"strings"

	"vxlan_exporter/internal/kernel/natrules"
	"vxlan_exporter/internal/node"
)

// judge holds one judgment while it is made.
type judge struct {
	now *node.Node

	// Indexes: a saved observation may hold a hundred thousand of anything, so nothing is searched once per device.
	ports    ports
	kernels  map[[2]string]condition      // by variant and family
	marks    map[string]uint32            // the masquerade mark of a family
	unread   map[string]string            // why NAT rules of a family were not read
	outer    map[sourceKey]natrules.Outer // by the address that devices name; none: of those that name none
	carries  map[string]bool              // families that VXLAN is received over here
	counters []Counter
	verdicts []verdict
	paths    []PathVerdict

	state    State
	findings []Finding
}

func newJudge(n *node.Node) *judge {
	j := &judge{
		now: n, state: Healthy,
		ports: sortPorts(n), outer: map[sourceKey]natrules.Outer{}, carries: map[string]bool{},
		counters: Counters(n),
	}
	j.marks = map[string]uint32{}
	for _, r := range n.NATRules.Rulesets {
		if r.Mark != 0 {
			j.marks[r.Family] = r.Mark
		}
	}
	j.unread = unreadRulesets(n.NATRules.Rulesets)
	j.kernels = map[[2]string]condition{}
	for _, v := range []string{node.ZeroChecksum, node.OffloadedChecksum} {
		for _, f := range families {
			j.kernels[[2]string{v, f}] = kernelCondition(n.Kernel, f, v)
		}
	}
	for _, o := range n.NATRules.Outer {
		j.outer[sourceKey{portKey{o.Family, o.Port}, o.Local.Unmap()}] = o
	}
	for _, d := range n.Devices {
		if d.LinkNetns != nil {
			continue
		}
		for _, f := range underlayFamilies(d) {
			j.carries[f] = j.carries[f] || d.Up
		}
	}
	for _, s := range n.Sockets {
		j.carries[s.Family] = true
	}
	j.paths = j.judgePaths()
	for _, d := range n.Devices {
		j.verdicts = append(j.verdicts, j.device(d)...)
	}
	return j
}

func underlayFamilies(d node.Device) []string {
	four, six := d.Link.Underlay()
	return node.Port{IPv4: four, IPv6: six}.Families()
}

// carriesVXLAN reports whether outer VXLAN packets are sent or received in this namespace, over any family.
func (j *judge) carriesVXLAN() bool { return j.carries[node.IPv4] || j.carries[node.IPv6] }

// result finds how a collector fared.
func (j *judge) result(name string) (node.Result, bool) {
	r, ok := j.now.Results[name]
	return r, ok
}

// succeeded reports whether a collector answered and its answer can be relied on.
func (j *judge) succeeded(name string) bool {
	r, ok := j.result(name)
	return ok && r.Succeeded()
}

// because says why a collector gave nothing, as the end of a sentence.
func (j *judge) because(name string) string {
	r, ok := j.result(name)
	switch {
	case !ok:
		return "not looked at"
	case r.Error != "":
		return r.Error
	case r.Status == node.Disabled:
		return "switched off"
	default:
		return string(r.Status)
	}
}

func (j *judge) counter(key string) Counter {
	for _, c := range j.counters {
		if c.key == key {
			return c
		}
	}
	return Counter{}
}

func (j *judge) add(f Finding) { j.findings = append(j.findings, f) }

// raise makes the node's state at least as bad as s: failing, exposed, unknown, healthy.
func (j *judge) raise(s State) {
	rank := map[State]int{Healthy: 0, Unknown: 1, Exposed: 2, Failing: 3}
	if rank[s] > rank[j.state] {
		j.state = s
	}
}

func (j *judge) verdict() Diagnosis {
	sort.SliceStable(j.findings,
		func(a, b int) bool { return j.findings[a].Severity.Rank() < j.findings[b].Severity.Rank() })
	return Diagnosis{State: j.state, Headline: j.headline(), Exposures: j.exposures(), Findings: j.findings}
}

// list joins names for a sentence: "a", "a and b", "a, b and 3 more".
func list(names []string) string {
	const most = 3
	switch n := len(names); {
	case n == 0:
		return ""
	case n == 1:
		return names[0]
	case n > most:
		return strings.Join(names[:most-1], ", ") + " and " + strconv.Itoa(n-most+1) + " more"
	default:
		return strings.Join(names[:n-1], ", ") + " and " + names[n-1]
	}
}
