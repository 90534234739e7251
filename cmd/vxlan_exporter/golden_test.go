package main

import (
	"bytes"
	"encoding/json"
	"flag"
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

	"vxlan_exporter/exporter"
	"vxlan_exporter/internal/node"
)

var update = flag.Bool("update", false, "write the golden exposition anew")

// goldenFile holds every metric, published from testdata/node.json: an observation that has something of everything.
const goldenFile = "testdata/metrics.txt"

// publisher makes the collectors as the program does, all of them switched on.
func publisher(t *testing.T) *exporter.Publisher {
	t.Helper()
	app := kingpin.New("test", "").Terminate(nil)
	s := addSourceFlags(app)
	if _, err := app.Parse([]string{"--collector.wire"}); err != nil {
		t.Fatal(err)
	}
	set, err := s.build(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	return exporter.NewPublisher(set.observer.Collectors())
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
	registry.MustRegister(publisher(t).Of(&exporter.Observation{Node: n, Answered: answered}, func(string) bool { return true }))
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
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
		t.Errorf("the exposition is not %s (make golden writes it anew); first difference:\n%s", goldenFile, firstDifference(string(got), string(want)))
	}
	// promtool is the judge of names, types and help texts.
	lint := exec.Command("../../.cache/bin/promtool", "check", "metrics")
	lint.Stdin = bytes.NewReader(got)
	if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool check metrics (make deps brings it): %v\n%s", err, out)
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

// METRICS.md and the program name the same metrics: none undocumented, none documented that is never published.
func TestMetricsAreDocumented(t *testing.T) {
	doc, err := os.ReadFile("../../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(vxlan_[a-z0-9_]+)").FindAllStringSubmatch(string(doc), -1) {
		if documented[m[1]] {
			t.Errorf("%s is documented twice", m[1])
		}
		documented[m[1]] = true
	}
	golden, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	published := map[string]bool{programName + "_build_info": true} // of the process's own registry
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+)`).FindAllStringSubmatch(string(golden), -1) {
		published[m[1]] = true
	}
	described := map[string]bool{programName + "_build_info": true}
	ch := make(chan *prometheus.Desc, 1000)
	publisher(t).Of(nil, nil).Describe(ch)
	close(ch)
	for d := range ch {
		described[regexp.MustCompile(`fqName: "([^"]+)"`).FindStringSubmatch(d.String())[1]] = true
	}
	for _, name := range slices.Sorted(maps.Keys(described)) {
		if !documented[name] {
			t.Errorf("%s is not in docs/METRICS.md", name)
		}
		if !published[name] {
			t.Errorf("%s is never published from testdata/node.json", name)
		}
	}
	for name := range documented {
		if !described[name] {
			t.Errorf("%s is documented, but no collector has it", name)
		}
	}
}
