package grafana_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/grafana"
)

var (
	ignored = regexp.MustCompile(
		`\{[^}]*\}|"[^"]*"|\[[^\]]*\]|\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)|\boffset \S+`)
	named    = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*(\s*\()?`)
	keywords = []string{"and", "or", "unless", "bool", "group_left", "group_right", "by"}
	// Of Prometheus and of client_golang, which docs/METRICS.md names in one line.
	others = []string{
		"ALERTS", "up", "process_cpu_seconds_total", "process_resident_memory_bytes", "process_start_time_seconds",
		"vxlan_exporter_build_info",
	}
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
		for _, q := range d.Queries() {
			for _, name := range named.FindAllString(ignored.ReplaceAllString(q.Expr, " "), -1) {
				if strings.HasSuffix(name, "(") || slices.Contains(keywords, name) {
					continue // the parser knows functions
				}
				name = strings.TrimSuffix(name, "_bucket") // of a histogram
				used[name] = true
				if !documented[name] && !slices.Contains(others, name) {
					t.Errorf("%s: %s is not in docs/METRICS.md", q.Where, name)
				}
			}
			for _, m := range rated.FindAllStringSubmatch(q.Expr, -1) {
				if !strings.HasSuffix(m[2], "_total") && !strings.HasSuffix(m[2], "_bucket") {
					t.Errorf("%s: %s of %s, which is no counter", q.Where, m[1], m[2])
				}
			}
			for _, m := range window.FindAllStringSubmatch(q.Expr, -1) {
				// 5m is the "now" of single values, which do not follow the shown time; 15m is how long a device that is gone keeps
				// its name.
				if allowed := []string{"$__rate_interval", "$__range"}; !slices.Contains(allowed, m[1]) &&
					(m[1] != "5m" && m[1] != "15m" || q.Over) {
					t.Errorf("%s: window [%s]", q.Where, m[1])
				}
				if q.Over && m[1] == "$__range" && !strings.Contains(q.Expr, "last_over_time") &&
					strings.Count(q.Expr, "[$__range]") != strings.Count(q.Expr, "[$__range] @ end()") {
					t.Errorf("%s: a window of the whole shown time, over time", q.Where)
				}
			}
			if strings.Contains(strings.NewReplacer("$__rate_interval", "", "$__interval", "", "$__range", "", "$1", "",
				"$job", "", "$cluster", "", "$instance", "", "$device", "").Replace(q.Expr), "$") {
				t.Errorf("%s: a variable that no dashboard has: %s", q.Where, q.Expr)
			}
		}
	}
	if len(used) < 50 {
		t.Errorf("%d metrics found in all queries: they are not read right", len(used))
	}
}

// The step and the windows of a query are those that Grafana would send.
func TestFill(t *testing.T) {
	t.Parallel()
	q := grafana.Query{
		Where: "d: p: A",
		Expr:  `rate(x{instance=~"$instance"}[$__rate_interval]) + y[$__range:$__interval]`, Points: 240,
	}
	for span, want := range map[time.Duration]string{
		time.Hour:      `rate(x{instance=~"a\\.b:1"}[1m0s]) + y[1h0m0s:15s]`,
		6 * time.Hour:  `rate(x{instance=~"a\\.b:1"}[2m15s]) + y[6h0m0s:2m0s]`,
		24 * time.Hour: `rate(x{instance=~"a\\.b:1"}[5m15s]) + y[24h0m0s:5m0s]`,
	} {
		expr, step := grafana.View{Span: span, Scrape: 15 * time.Second, Instance: "a.b:1"}.Fill(q)
		if expr != want || !strings.HasSuffix(expr, ":"+step.String()+"]") {
			t.Errorf("%v: %s, step %v; want %s", span, expr, step, want)
		}
	}
}
