package grafana_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vxlan_exporter/grafana"
)

// chosen is the data source variable: a dashboard names no data source of any site.
var chosen = grafana.Datasource{Type: "prometheus", UID: "${datasource}"}

func dashboards(t *testing.T) []grafana.Dashboard {
	t.Helper()
	all, err := grafana.Load("dashboards")
	if err != nil || len(all) != 2 {
		t.Fatalf("%d dashboards, %v; want two", len(all), err)
	}
	return all
}

func TestPanels(t *testing.T) {
	t.Parallel()
	for _, d := range dashboards(t) {
		ids, titles := map[int]bool{}, map[string]bool{}
		taken := map[[2]int]string{}
		for _, p := range d.Panels {
			fail := func(format string, args ...any) {
				t.Helper()
				t.Errorf("%s, panel %q: %s", d.UID, p.Title, fmt.Sprintf(format, args...))
			}
			if p.ID <= 0 || ids[p.ID] {
				fail("id %d is missing or not unique", p.ID)
			}
			if p.Title == "" || titles[p.Title] {
				fail("the title is missing or not unique")
			}
			ids[p.ID], titles[p.Title] = true, true
			for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
				for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
					if other, is := taken[[2]int{x, y}]; is {
						fail("overlaps %q", other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
			if p.GridPos.W <= 0 || p.GridPos.H <= 0 || p.GridPos.X < 0 || p.GridPos.X+p.GridPos.W > 24 {
				fail("lies outside of the grid: %+v", p.GridPos)
			}
			switch p.Type {
			case "row":
				continue
			case "text":
				if p.Description == "" || p.Options["mode"] != "markdown" || p.Options["content"] == "" {
					fail("no description, or no text")
				}
				continue
			case "stat", "timeseries", "state-timeline", "table":
			default:
				fail("type %s is not one that Grafana 10 to 13 all have", p.Type)
			}
			if len(p.Description) < 30 || p.FieldConfig.Defaults.Unit == "" || len(p.FieldConfig.Defaults.NoValue) < 10 {
				fail("description %q, unit %q, reason of no data %q", p.Description, p.FieldConfig.Defaults.Unit,
					p.FieldConfig.Defaults.NoValue)
			}
			if p.Datasource != chosen || len(p.Targets) == 0 {
				fail("data source %v, %d queries", p.Datasource, len(p.Targets))
			}
			refs := map[string]bool{}
			for _, q := range p.Targets {
				if q.Datasource != chosen || q.Expr == "" || q.RefID == "" || refs[q.RefID] || q.Instant == q.Range {
					fail("query %+v", q)
				}
				refs[q.RefID] = true
				if over := p.Type == "timeseries" || p.Type == "state-timeline"; over != q.Range {
					fail("query %s: over time %t", q.RefID, q.Range)
				}
			}
		}
		for y := range 200 { // no gaps either: they look like panels that failed
			n := 0
			for x := range 24 {
				if taken[[2]int{x, y}] != "" {
					n++
				}
			}
			if n != 0 && n != 24 {
				t.Errorf("%s: line %d of the grid has %d of 24 columns", d.UID, y, n)
			}
		}
	}
}

// What receivers suffer is red in every time series, what senders cause is purple.
func TestColors(t *testing.T) {
	t.Parallel()
	want := map[string]string{"vxlan_host_udp_in_csum_errors_total": "red", `nat="snat"`: "purple"}
	for _, d := range dashboards(t) {
		colored := map[string]int{}
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				for part, color := range want {
					if p.Type != "timeseries" || !strings.Contains(target.Expr, "rate(") || !strings.Contains(target.Expr, part) ||
						strings.Contains(target.Expr, "unless") {
						continue
					}
					colored[color]++
					if got := colorOf(p, target.LegendFormat); got != color {
						t.Errorf("%s, panel %q: %s is %q; want %s", d.UID, p.Title, target.LegendFormat, got, color)
					}
				}
			}
		}
		if colored["red"] < 2 || colored["purple"] < 1 {
			t.Errorf("%s: only %v were looked at", d.UID, colored)
		}
	}
}

// colorOf is the color of a line: what an override says of its legend, or the panel's own.
func colorOf(p grafana.Panel, legend string) string {
	for _, o := range p.FieldConfig.Overrides {
		is := o.Matcher.Options == legend
		if o.Matcher.ID == "byRegexp" {
			is = regexp.MustCompile(strings.Trim(o.Matcher.Options, "/")).MatchString(legend)
		}
		for _, property := range o.Properties {
			if color, of := property.Value.(map[string]any); is && of && property.ID == "color" {
				return fmt.Sprint(color["fixedColor"])
			}
		}
	}
	return p.FieldConfig.Defaults.Color.FixedColor
}

func TestVariablesAndLinks(t *testing.T) {
	t.Parallel()
	all := dashboards(t)
	for i, d := range all {
		other := all[1-i]
		var names []string
		for _, v := range d.Templating.List {
			names = append(names, v.Name)
			if v.Type == "query" && v.Datasource != chosen {
				t.Errorf("%s: variable %s asks %v", d.UID, v.Name, v.Datasource)
			}
			all := ".+"
			if v.Name == "cluster" {
				all = ".*" // an absent label matches
			}
			if v.IncludeAll && v.AllValue != all {
				t.Errorf("%s: all of %s is %q", d.UID, v.Name, v.AllValue)
			}
			if v.Name == "cluster" && !v.IncludeAll {
				t.Errorf("%s: cluster cannot be left open", d.UID)
			}
		}
		if want := []string{"datasource", "job", "cluster", "instance", "device", "runbook"}; !slices.Equal(names, want) {
			t.Errorf("%s: variables %v; want %v", d.UID, names, want)
		}
		var links []string
		for _, l := range d.Links {
			links = append(links, l.URL)
		}
		for _, want := range []string{"/d/" + other.UID + "/", "${runbook}/RUNBOOK.md"} {
			if !slices.ContainsFunc(links, func(l string) bool { return strings.HasPrefix(l, want) }) {
				t.Errorf("%s: no link to %s among %v", d.UID, want, links)
			}
		}
		if len(d.Annotations.List) != 1 || d.Annotations.List[0].Datasource != chosen ||
			!strings.Contains(d.Annotations.List[0].Expr, `ALERTS{alertname=~"Vxlan.*"`) {
			t.Errorf("%s: annotations %+v", d.UID, d.Annotations)
		}
		if d.Title == "" || d.Description == "" {
			t.Errorf("%s: title %q, description %q", d.UID, d.Title, d.Description)
		}
	}
}
