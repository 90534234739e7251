package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"vxlan_exporter/collectors"
	"vxlan_exporter/exporter"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/lab/labtest"
)

var update = flag.Bool("update", false, "write the golden exposition anew")

// goldenFile holds every metric, published from testdata/node.json: an observation that has something of everything.
const goldenFile = "testdata/metrics.txt"

// allCollectors makes the collectors as the program does, all of them switched on.
func allCollectors(t *testing.T) []collectors.Collector {
	t.Helper()
	app := kingpin.New("test", "").Terminate(nil)
	s := addSourceFlags(app)
	if _, err := app.Parse([]string{"--collector.wire", "--collector.path"}); err != nil {
		t.Fatal(err)
	}
	set, err := s.build(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return set.observer.Collectors()
}

func readNode(t *testing.T) *node.Node {
	t.Helper()
	b, err := os.ReadFile("testdata/node.json")
	if err != nil {
		t.Fatal(err)
	}
	var n node.Node
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&n); err != nil {
		t.Fatal(err)
	}
	return &n
}

func TestGolden(t *testing.T) {
	n := readNode(t)
	answered := map[string]bool{}
	for name := range n.Results {
		answered[name] = true
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(exporter.NewPublisher(allCollectors(t)).Of(&exporter.Observation{Node: n, Answered: answered},
		func(string) bool { return true }))
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).
		ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	got, err := io.ReadAll(w.Body)
	if err != nil || w.Code != 200 {
		t.Fatalf("%d %v: %s", w.Code, err, got)
	}
	if *update {
		if err := os.WriteFile(goldenFile, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("the exposition is not %s (make golden writes it anew); first difference:\n%s", goldenFile,
			firstDifference(string(got), string(want)))
	}
	// promtool is the judge of names, types and help texts.
	lint := exec.Command(labtest.Server(t, "promtool"), "check", "metrics")
	lint.Stdin = bytes.NewReader(got)
	if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return "got  " + g[i] + "\nwant " + w[i]
		}
	}
	return "one is longer than the other"
}

// The tables of METRICS.md are those of the declared metrics, each of which is published from testdata/node.json.
func TestMetricsAreDocumented(t *testing.T) {
	const docFile = "../../docs/METRICS.md"
	doc, err := os.ReadFile(docFile)
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string]string{}
	for _, m := range declared(t) {
		name := collectors.Namespace + "_" + m.Name
		rows[name] = documentation(name, m)
		if !bytes.Contains(golden, []byte("# TYPE "+name+" ")) {
			t.Errorf("%s is never published from testdata/node.json", name)
		}
	}
	// A table holds the metrics whose names begin with one of its prefixes, in the order of their declaration.
	table := regexp.MustCompile(`(?s)(<!-- make golden: ([a-z0-9_ ]+) -->\n).*?(<!-- end -->)`)
	want := table.ReplaceAllStringFunc(string(doc), func(old string) string {
		part := table.FindStringSubmatch(old)
		text := "\n| metric | type, labels | meaning |\n|---|---|---|\n"
		for _, m := range declared(t) {
			name := collectors.Namespace + "_" + m.Name
			if slices.ContainsFunc(strings.Fields(part[2]),
				func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
				text += rows[name]
				delete(rows, name)
			}
		}
		return part[1] + text + "\n" + part[3]
	})
	if len(rows) > 0 {
		t.Errorf("in no table, or in two: %v", slices.Sorted(maps.Keys(rows)))
	}
	if *update {
		if err := os.WriteFile(docFile, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if want != string(doc) {
		t.Errorf("docs/METRICS.md is not what the metrics declare (make golden writes it anew): %s",
			firstDifference(string(doc), want))
	}
}

// declared are all metrics of the program but those of client_golang.
func declared(t *testing.T) []collectors.Metric {
	t.Helper()
	return exporter.NewPublisher(allCollectors(t)).Declared()
}

// documentation is the row of a metric.
func documentation(name string, m collectors.Metric) string {
	var labels []string
	for _, l := range m.Labels {
		label, values, fixed := strings.Cut(l, "=")
		label = " `" + label + "`"
		if fixed {
			label += " (" + strings.ReplaceAll(values, ",", ", ") + ")"
		}
		labels = append(labels, label)
	}
	return fmt.Sprintf("| `%s` | %s%s | %s |\n", name, m.Type(), strings.Join(labels, ","),
		strings.TrimSpace(m.Help+" "+m.Notes))
}
