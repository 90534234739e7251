// Package report shows a diagnosis and the observation it rests on: as text for a terminal, as JSON, and as a page for
// a browser. It only renders: what it is given it neither reads nor judges. Names and error texts in an observation may
// come from anybody, so none reaches the reader with its control characters in force.
package report

import (
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

// Most rows shown of what a node may have hundreds of. The JSON report has all.
const (
	maxDevices         = 40
	maxFindingsPerCode = 8
	maxSteps           = 24
	maxRows            = 64 // of any other table, and of the notes below one
)

// model is what all renderers show, in plain words.
type model struct {
	State    diagnosis.State
	Headline string
	Facts    []pair // of the observation: node, time, kernel
	Findings []diagnosis.Finding
	Omitted  []string // what the caps left out
	Tables   []table
	Steps    []step
}

type pair struct{ Name, Value string }

// table is one section of what was observed.
type table struct {
	ID      string
	Title   string
	Columns []column
	Rows    [][]cell
	Notes   []pair // lines below; Name may be empty
}

type column struct {
	Name  string
	Right bool
}

type cell struct {
	Text string
	Tone tone
}

// tone is how a cell or a word is to be taken, in the words of the diagnosis's severities.
type tone string

const (
	plain tone = ""
	good  tone = "ok"
	warn  tone = "warning"
	bad   tone = "critical"
	faint tone = "faint"
)

// step is a remedy with the findings it is for.
type step struct {
	diagnosis.Remedy
	For     string
	devices []string
}

func newModel(n *node.Node, d diagnosis.Diagnosis) model {
	m := model{State: d.State, Headline: d.Headline}
	if n == nil {
		return m
	}
	m.Facts = facts(n)
	m.Findings, m.Omitted = findings(d.Findings)
	m.Tables = []table{
		devices(n, d), flows(n), rules(n), wire(n), path(n), kernel(n), counters(n),
		missing(n),
	}
	m.Tables = slices.DeleteFunc(m.Tables, func(t table) bool { return len(t.Rows) == 0 && len(t.Notes) == 0 })
	var omitted int
	if m.Steps, omitted = steps(d.Findings); omitted > 0 {
		m.Omitted = append(m.Omitted, strconv.Itoa(omitted)+" more remedies are in the JSON report")
	}
	for i := range m.Tables {
		m.Tables[i].limit()
	}
	return m
}

func facts(n *node.Node) []pair {
	f := []pair{{"node", n.Hostname}, {"time", n.Time.UTC().Format("2006-01-02 15:04:05 UTC")}}
	if span, _, ok := diagnosis.Interval(n); ok {
		f = append(f, pair{"observations", "2, " + span.Round(100*time.Millisecond).String() + " apart"})
	} else {
		f = append(f, pair{"observations", "1"})
	}
	if n.Kernel.Release != "" {
		f = append(f, pair{"kernel", n.Kernel.Release})
	}
	if n.Exporter != "" {
		f = append(f, pair{"vxlan_exporter", n.Exporter})
	}
	return f
}

// findings leaves out what the section on what was not read shows, and caps what hundreds of devices would repeat.
func findings(all []diagnosis.Finding) (kept []diagnosis.Finding, omitted []string) {
	perCode := map[diagnosis.Code]int{}
	for _, f := range all {
		if f.Code == diagnosis.CodeResultMissing && f.Family == "" {
			continue
		}
		perCode[f.Code]++
		if perCode[f.Code] <= maxFindingsPerCode {
			kept = append(kept, f)
		}
	}
	for _, code := range diagnosis.Codes() {
		if n := perCode[code] - maxFindingsPerCode; n > 0 {
			omitted = append(omitted, strconv.Itoa(n)+" more findings "+string(code)+" are in the JSON report")
		}
	}
	return kept, omitted
}

// steps gathers the remedies of all findings, each once: what changes something first, then what only reads.
func steps(all []diagnosis.Finding) (list []step, omitted int) {
	at, seen := map[string]int{}, map[[2]string]bool{}
	for _, f := range all {
		if f.Severity == diagnosis.Good {
			continue
		}
		for _, r := range f.Remedies {
			key := r.Title + "\x00" + strings.Join(r.Commands, "\x00") + "\x00" + strings.Join(r.Also, "\x00")
			i, ok := at[key]
			if !ok {
				i = len(list)
				at[key] = i
				list = append(list, step{Remedy: r})
			}
			if f.Device != "" && !seen[[2]string{key, f.Device}] {
				seen[[2]string{key, f.Device}] = true
				list[i].devices = append(list[i].devices, f.Device)
			}
		}
	}
	sort.SliceStable(list, func(i, j int) bool { return !list[i].Diagnostic && list[j].Diagnostic })
	if omitted = len(list) - maxSteps; omitted > 0 {
		list = list[:maxSteps]
	}
	for i, s := range list {
		list[i].For = strings.Join(s.devices[:min(len(s.devices), 3)], ", ")
		if more := len(s.devices) - 3; more > 0 {
			list[i].For += " and " + strconv.Itoa(more) + " more"
		}
	}
	return list, max(omitted, 0)
}

func stateTone(s diagnosis.State) tone {
	switch s {
	case diagnosis.Healthy, diagnosis.Clear:
		return good
	case diagnosis.Failing, diagnosis.Active:
		return bad
	default:
		return warn
	}
}

// stateWords is a state as a heading.
func stateWords(s diagnosis.State) string {
	switch s {
	case diagnosis.Healthy:
		return "Healthy"
	case diagnosis.Exposed:
		return "Exposed"
	case diagnosis.Failing:
		return "Failing now"
	default:
		return "Could not tell"
	}
}

// remedyLines says what a remedy does and costs, in the order in which one asks.
func remedyLines(r diagnosis.Remedy) []pair {
	var list []pair
	add := func(name, value string) {
		if value != "" {
			list = append(list, pair{name, value})
		}
	}
	add("effect", r.Effect)
	add("cost", r.Cost)
	add("lasts", r.Persist)
	switch {
	case r.Diagnostic:
	case len(r.Also) > 0:
		add("stalled", "connections that have stalled already need this as well")
	case r.CuresStalled:
		add("stalled", "connections that have stalled already recover too")
	default:
		add("stalled", "connections that have stalled already may not recover")
	}
	return list
}

// limit cuts what is longer than anybody reads.
func (t *table) limit() {
	more := max(len(t.Rows)-maxRows, 0) + max(len(t.Notes)-maxRows, 0)
	t.Rows, t.Notes = t.Rows[:min(len(t.Rows), maxRows)], t.Notes[:min(len(t.Notes), maxRows)]
	if more > 0 {
		t.Notes = append(t.Notes, pair{"", "and " + strconv.Itoa(more) + " more lines; the JSON report has all"})
	}
}

// worstFirst sorts devices by what threatens them, keeping the kernel's order otherwise.
func worstFirst(n *node.Node, state map[string]diagnosis.State) []node.Device {
	order := []diagnosis.State{diagnosis.Clear, diagnosis.Unknown, diagnosis.Exposed, diagnosis.Active}
	threat := func(d node.Device) int {
		return max(
			slices.Index(order, state[d.Name+"\x00"+node.ZeroChecksum]),
			slices.Index(order, state[d.Name+"\x00"+node.OffloadedChecksum]),
		)
	}
	list := slices.Clone(n.Devices)
	sort.SliceStable(list, func(i, j int) bool { return threat(list[i]) > threat(list[j]) })
	return list
}
