package scrape

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Metrics are the values of one scrape by series, written as Prometheus writes them: name{label="value",...}, labels
// sorted by name. Histograms and summaries are left out.
type Metrics map[string]float64

// Parse reads the text exposition format.
func Parse(r io.Reader) (Metrics, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(r)
	if err != nil {
		return nil, fmt.Errorf("exposition: %w", err)
	}
	m := Metrics{}
	for name, family := range families {
		for _, metric := range family.GetMetric() {
			labels := map[string]string{}
			for _, l := range metric.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			switch {
			case metric.GetCounter() != nil:
				m[Series(name, labels)] = metric.GetCounter().GetValue()
			case metric.GetGauge() != nil:
				m[Series(name, labels)] = metric.GetGauge().GetValue()
			case metric.GetUntyped() != nil:
				m[Series(name, labels)] = metric.GetUntyped().GetValue()
			}
		}
	}
	return m, nil
}

// Series writes a series' name and labels as they stand in Metrics.
func Series(name string, labels map[string]string) string {
	if len(labels) == 0 {
		return name
	}
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, fmt.Sprintf("%s=%q", k, labels[k]))
	}
	return name + "{" + strings.Join(pairs, ",") + "}"
}

// Names lists the series in order.
func (m Metrics) Names() []string { return slices.Sorted(maps.Keys(m)) }
