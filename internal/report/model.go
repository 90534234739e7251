// Package report shows a diagnosis and the observation it rests on: as text for a terminal, as JSON, and as a page for
// a browser. It only renders: what it is given it neither reads nor judges. Names and error texts in an observation may
// come from anybody, so none reaches the reader with its control characters in force.
package report

import (
	"cmp"
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
	Tables   []*table
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

// newTable takes the names of the columns; one that begins with ">" is aligned to the right.
func newTable(id, title string, columns ...string) *table {
	t := &table{ID: id, Title: title}
	for _, c := range columns {
		name, right := strings.CutPrefix(c, ">")
		t.Columns = append(t.Columns, column{name, right})
	}
	return t
}

// row adds a row, in which tones may be set.
func (t *table) row(texts ...string) []cell {
	row := make([]cell, len(texts))
	for i, text := range texts {
		row[i].Text = text
	}
	t.Rows = append(t.Rows, row)
	return row
}

func (t *table) note(name, value string) { t.Notes = append(t.Notes, pair{name, value}) }

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
	for _, t := range []*table{
		devices(n, d), flows(n), rules(n), wire(n), path(n), kernel(n), counters(n), missing(n),
	} {
		if len(t.Rows) > 0 || len(t.Notes) > 0 {
			t.limit()
			m.Tables = append(m.Tables, t)
		}
	}
	var omitted int
	if m.Steps, omitted = steps(d.Findings); omitted > 0 {
		m.Omitted = append(m.Omitted, strconv.Itoa(omitted)+" more remedies are in the JSON report")
	}
	return m
}

func facts(n *node.Node) []pair {
	observations := "1"
	if span, _, ok := diagnosis.Interval(n); ok {
		observations = "2, " + span.Round(100*time.Millisecond).String() + " apart"
	}
	f := []pair{{"node", n.Hostname}, {"time", n.Time.UTC().Format(timeFormat)}, {"observations", observations}}
	if n.Kernel.Release != "" {
		f = append(f, pair{"kernel", n.Kernel.Release})
	}
	if n.Exporter != "" {
		f = append(f, pair{"vxlan_exporter", n.Exporter})
	}
	return f
}

const timeFormat = "2006-01-02 15:04:05 UTC"

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
	words := map[diagnosis.State]string{
		diagnosis.Healthy: "Healthy", diagnosis.Exposed: "Exposed", diagnosis.Failing: "Failing now",
	}
	return cmp.Or(words[s], "Could not tell")
}

// remedyLines says what a remedy does and costs, in the order in which one asks.
func remedyLines(r diagnosis.Remedy) []pair {
	stalled := "connections that have stalled already may not recover"
	switch {
	case r.Diagnostic:
		stalled = ""
	case len(r.Also) > 0:
		stalled = "connections that have stalled already need this as well"
	case r.CuresStalled:
		stalled = "connections that have stalled already recover too"
	}
	return slices.DeleteFunc([]pair{{"effect", r.Effect}, {"cost", r.Cost}, {"lasts", r.Persist}, {"stalled", stalled}},
		func(p pair) bool { return p.Value == "" })
}

// limit cuts what is longer than anybody reads.
func (t *table) limit() {
	more := max(len(t.Rows)-maxRows, 0) + max(len(t.Notes)-maxRows, 0)
	t.Rows, t.Notes = t.Rows[:min(len(t.Rows), maxRows)], t.Notes[:min(len(t.Notes), maxRows)]
	if more > 0 {
		t.note("", "and "+strconv.Itoa(more)+" more lines; the JSON report has all")
	}
}
