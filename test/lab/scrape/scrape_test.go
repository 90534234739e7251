package scrape_test

import (
	"maps"
	"strings"
	"testing"

	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/scrape"
)

func TestParse(t *testing.T) {
	m, err := scrape.Parse(strings.NewReader(`# TYPE a_total counter
a_total{z="1",b="x\"y"} 3
# TYPE g gauge
g -1.5
untyped 7
# TYPE h histogram
h_bucket{le="+Inf"} 1
h_sum 1
h_count 1
`))
	want := scrape.Metrics{`a_total{b="x\"y",z="1"}`: 3, "g": -1.5, "untyped": 7}
	if err != nil || !maps.Equal(m, want) {
		t.Errorf("got %v, %v; want %v", m, err, want)
	}
	if s := scrape.Series("a_total", map[string]string{"z": "1", "b": `x"y`}); m[s] != 3 {
		t.Errorf("%s is not found", s)
	}
	if m, err := scrape.Parse(strings.NewReader("a_total{\n")); err == nil {
		t.Errorf("broken exposition accepted: %v", m)
	}
}

// A program that ends instead of serving is an error at once, with what it wrote.
func TestStartOfWhatDoesNotServe(t *testing.T) {
	n := labtest.New(t, "scrape")
	e, err := scrape.Start(t.Context(), n.NS, "sh", "-c", "echo no such flag >&2; exit 7")
	if err == nil || !strings.Contains(err.Error(), "exit status 7") || !strings.Contains(err.Error(), "no such flag") {
		t.Errorf("%v, %v; want its exit status and what it wrote", e, err)
	}
	if _, err := scrape.Start(t.Context(), n.NS, "/nowhere/vxlan_exporter"); err == nil {
		t.Error("a binary that is not there was started")
	}
}
