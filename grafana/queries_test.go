package grafana_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// macros are what Grafana puts in the place of its macros and variables.
type macros struct {
	span, interval time.Duration // shown time, and step
	instance       string        // the node dashboard's
}

// fill is a query as it is sent. All is `.*` for every variable that has it.
func (m macros) fill(expr string) string {
	rate := 4 * m.interval // Grafana: at least four scrape intervals
	instance := ".*"
	if m.instance != "" {
		instance = regexp.QuoteMeta(m.instance)
	}
	return strings.NewReplacer(
		"$__rate_interval", rate.String(), "$__interval", m.interval.String(), "$__range", m.span.Truncate(time.Second).String(),
		"$cluster", ".*", "$instance", strings.ReplaceAll(instance, `\`, `\\`), "$device", ".*",
	).Replace(expr)
}

// query is one of a dashboard, with where it stands.
type query struct {
	where, expr string
	over        bool // over time
}

func queries(d dashboard) []query {
	var all []query
	for _, p := range d.Panels {
		for _, q := range p.Targets {
			all = append(all, query{d.UID + ": " + p.Title + ": " + q.RefID, q.Expr, q.Range})
		}
	}
	for _, a := range d.Annotations.List {
		all = append(all, query{d.UID + ": annotations", a.Expr, true})
	}
	return all
}

var (
	ignored  = regexp.MustCompile(`\{[^}]*\}|"[^"]*"|\[[^\]]*\]|\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)|\boffset \S+`)
	named    = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*(\s*\()?`)
	keywords = []string{"and", "or", "unless", "bool", "group_left", "group_right", "by"}
	// Of Prometheus and of client_golang, which docs/METRICS.md names in one line.
	others = []string{"ALERTS", "up", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds"}
	window = regexp.MustCompile(`[})]\[([^\]:]*)(:[^\]]*)?\]`)
	rated  = regexp.MustCompile(`\b(increase|rate)\((\w+)`)
)

// Every metric is documented, and used as what it is.
func TestMetricsOfQueries(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(vxlan_\\w+)`").FindAllSubmatch(doc, -1) {
		documented[string(m[1])] = true
	}
	used := map[string]bool{}
	for _, d := range dashboards(t) {
		for _, q := range queries(d) {
			for _, name := range named.FindAllString(ignored.ReplaceAllString(q.expr, " "), -1) {
				if strings.HasSuffix(name, "(") || slices.Contains(keywords, name) {
					continue // the parser knows functions
				}
				used[name] = true
				if !documented[name] && !slices.Contains(others, name) {
					t.Errorf("%s: %s is not in docs/METRICS.md", q.where, name)
				}
			}
			for _, m := range rated.FindAllStringSubmatch(q.expr, -1) {
				if !strings.HasSuffix(m[2], "_total") {
					t.Errorf("%s: %s of %s, which is no counter", q.where, m[1], m[2])
				}
			}
			for _, m := range window.FindAllStringSubmatch(q.expr, -1) {
				// 5m is the "now" of single values, which do not follow the shown time.
				if allowed := []string{"$__rate_interval", "$__range"}; !slices.Contains(allowed, m[1]) && (m[1] != "5m" || q.over) {
					t.Errorf("%s: window [%s]", q.where, m[1])
				}
				if q.over && m[1] == "$__range" && !strings.Contains(q.expr, "last_over_time") {
					t.Errorf("%s: a window of the whole shown time, over time", q.where)
				}
			}
			if strings.Contains(strings.NewReplacer("$__rate_interval", "", "$__interval", "", "$__range", "", "$1", "",
				"$cluster", "", "$instance", "", "$device", "").Replace(q.expr), "$") {
				t.Errorf("%s: a variable that no dashboard has: %s", q.where, q.expr)
			}
		}
	}
	if len(used) < 50 {
		t.Errorf("%d metrics found in all queries: they are not read right", len(used))
	}
}
