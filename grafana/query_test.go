package grafana

import (
	"regexp"
	"strings"
	"time"
)

// Query is one that a dashboard sends.
type Query struct {
	Where  string // dashboard, panel and reference
	Expr   string
	Over   bool // over time
	Points int  // at most, over time
}

// A screen of 1920 pixels is 24 columns wide.
const columnPixels = 78

// annotationPoints and annotationStep are Grafana's own for annotations.
const (
	annotationPoints = 100
	annotationStep   = time.Minute
)

// Queries of a dashboard's panels and annotations.
func (d Dashboard) Queries() []Query {
	var all []Query
	for _, p := range d.Panels {
		points := p.MaxDataPoints
		if points == 0 {
			points = p.GridPos.W * columnPixels
		}
		for _, t := range p.Targets {
			all = append(all, Query{d.UID + ": " + p.Title + ": " + t.RefID, t.Expr, t.Range, points})
		}
	}
	for _, a := range d.Annotations.List {
		all = append(all, Query{d.UID + ": annotations", a.Expr, true, annotationPoints})
	}
	return all
}

// Labels are the variables that are filled by label_values: whose values, of which series.
func (d Dashboard) Labels() map[string]struct{ Label, Series string } {
	all := map[string]struct{ Label, Series string }{}
	for _, v := range d.Templating.List {
		q, _ := v.Query.(map[string]any)
		text, _ := q["query"].(string)
		if m := labelValues.FindStringSubmatch(text); v.Type == "query" && m != nil {
			all[v.Name] = struct{ Label, Series string }{m[2], m[1]}
		}
	}
	return all
}

var labelValues = regexp.MustCompile(`^label_values\((.+),\s*(\w+)\)$`)

// View is what Grafana puts in the place of its macros and variables.
type View struct {
	Span     time.Duration // shown time
	Scrape   time.Duration // the data source's scrape interval
	Instance string        // chosen node; empty: all
}

// Fill is a query as it is sent, and its step. Every variable that has it is All.
func (v View) Fill(q Query) (expr string, step time.Duration) {
	least := v.Scrape
	if strings.HasSuffix(q.Where, ": annotations") {
		least = annotationStep
	}
	step = max(RoundInterval(v.Span/time.Duration(max(q.Points, 1))), least)
	rate := max(step+v.Scrape, 4*v.Scrape)
	instance := ".+"
	if v.Instance != "" {
		instance = strings.ReplaceAll(regexp.QuoteMeta(v.Instance), `\`, `\\`)
	}
	return strings.NewReplacer(
		"$__rate_interval", rate.String(), "$__interval", step.String(), "$__range", v.Span.Truncate(time.Second).String(),
		"$job", ".+", "$cluster", ".*", "$instance", instance, "$device", ".+",
	).Replace(q.Expr), step
}

// rounds are the intervals that Grafana rounds to, each with the first that is rounded to the next (roundInterval of
// @grafana/data).
var rounds = []struct{ below, to time.Duration }{
	{1500 * time.Millisecond, time.Second},
	{3500 * time.Millisecond, 2 * time.Second},
	{7500 * time.Millisecond, 5 * time.Second},
	{12500 * time.Millisecond, 10 * time.Second},
	{17500 * time.Millisecond, 15 * time.Second},
	{25 * time.Second, 20 * time.Second},
	{45 * time.Second, 30 * time.Second},
	{90 * time.Second, time.Minute},
	{210 * time.Second, 2 * time.Minute},
	{450 * time.Second, 5 * time.Minute},
	{750 * time.Second, 10 * time.Minute},
	{1050 * time.Second, 15 * time.Minute},
	{1500 * time.Second, 20 * time.Minute},
	{45 * time.Minute, 30 * time.Minute},
	{90 * time.Minute, time.Hour},
}

// RoundInterval is a step as Grafana rounds it: a second at least, an hour at most.
func RoundInterval(d time.Duration) time.Duration {
	for _, r := range rounds {
		if d < r.below {
			return r.to
		}
	}
	return time.Hour
}
