package diagnosis

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"vxlan_exporter/internal/node"
)

// Names of the collectors whose outcome matters to the judgment.
const (
	readDevices   = "device"
	readRules     = "natrules"
	readConntrack = "conntrack"
	readHost      = "host"
	readSockets   = "socket"
)

// Lost says what cannot be told while the collector called name has no answer.
func Lost(name string) string {
	lost := map[string]string{
		readDevices:   "VXLAN devices and their features: no device can be judged",
		readRules:     "NAT rules: a device that they guard cannot be told from one that they do not",
		readConntrack: "VXLAN flows: NATed flows would not be seen",
		readHost:      "the kernel's counters: bad checksums that arrive would not be seen",
		readSockets:   "drops of the VXLAN sockets: bad checksums are harder to attribute",
		"kernel":      "the kernel's version: " + node.ZeroChecksum + " cannot be judged without the self-test",
		"underlay":    "driver and offloads of the NIC below",
		"wire":        "the packets themselves",
	}
	return cmp.Or(lost[name], "what this collector reads")
}

// Missing reports whether an outcome leaves a gap worth telling. The packet capture is off unless asked for.
func Missing(name string, r node.Result) bool {
	return !r.Succeeded() && (name != "wire" || r.Status != node.Disabled)
}

// results reports what could not be read, and decides whether a verdict is possible without it.
func (j *judge) results() {
	for _, name := range slices.Sorted(maps.Keys(j.now.Results)) {
		r := j.now.Results[name]
		if !Missing(name, r) {
			continue
		}
		f := Finding{
			Code: CodeResultMissing, Severity: Warning,
			Summary:  "Not read: " + Lost(name) + ".",
			Evidence: []Evidence{{"collector", name}, {"status", string(r.Status)}},
		}
		if r.Error != "" {
			f.Evidence = append(f.Evidence, Evidence{"error", r.Error})
		}
		switch r.Status {
		case node.Disabled, node.Unsupported:
			f.Severity = Info
		case node.NotPermitted:
			f.Remedies = []Remedy{remedy("more_rights")}
		}
		j.add(f)
	}
	if !j.succeeded(readDevices) {
		j.raise(Unknown)
	}
	if s := j.now.Conntrack.Scan; s != nil && s.Stale {
		j.add(Finding{
			Code: CodeStaleScan, Severity: Warning,
			Summary:  "The flows are those of an earlier scan: the last one did not finish.",
			Evidence: []Evidence{{"scan ended", s.Time.UTC().Format("2006-01-02 15:04:05 MST")}},
		})
	}
	j.comparison()
}

// comparison reports what keeps two observations from giving rates.
func (j *judge) comparison() {
	_, why, ok := Interval(j.now)
	switch {
	case j.now.Earlier == nil:
		j.add(Finding{
			Code: CodeOneObservation, Severity: Info,
			Summary: "There was one observation only, so counters have no rates: whether bad checksums are arriving now " +
				"cannot be told.",
		})
	case !ok:
		j.add(Finding{Code: CodeNotComparable, Severity: Info, Summary: "Counters have no rates: " + why + "."})
	}
	var names []string
	for _, c := range j.counters {
		if c.Reset {
			names = append(names, strings.TrimSpace(c.Name+" "+c.Detail))
		}
	}
	if len(names) > 0 {
		j.add(Finding{
			Code: CodeCounterReset, Severity: Info,
			Summary: "Started again between the two observations, so no rate: " + list(names) + ". Observe again.",
		})
	}
}
