package collectors

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"vxlan_exporter/internal/node"
)

// Namespace is the prefix of every metric.
const Namespace = "vxlan"

// Metric declares a metric. Its HELP text, its series and its row in docs/METRICS.md come from this alone.
type Metric struct {
	Name   string   // without the namespace; a counter when it ends in "_total", else a gauge
	Labels []string // "direction=in,out" also documents the values
	Help   string
	Notes  string // what docs/METRICS.md says besides Help
	// SinceStart says that it counts since the exporter started, so that one observation alone has nothing to tell of it.
	SinceStart bool
	// Samples emits every series that n has.
	Samples func(n *node.Node, emit Emit)
	// Histograms emits them where the metric is a histogram. Buckets are cumulative, by upper bound.
	Histograms func(n *node.Node, emit EmitHistogram)
}

// EmitHistogram takes one histogram.
type EmitHistogram func(count uint64, sum float64, buckets map[float64]uint64, labels ...string)

// Type is the metric's type as Prometheus has it.
func (m *Metric) Type() string {
	switch {
	case m.Histograms != nil:
		return "histogram"
	case strings.HasSuffix(m.Name, "_total"):
		return "counter"
	default:
		return "gauge"
	}
}

// Emit takes one sample. Label values stand in the order of Metric.Labels.
type Emit func(value float64, labels ...string)

// Bool emits 1 or 0.
func (emit Emit) Bool(value bool, labels ...string) { emit(boolean(value), labels...) }

func boolean(value bool) float64 {
	if value {
		return 1
	}
	return 0
}

// Number emits a number that the kernel may not have: nil emits nothing.
func (emit Emit) Number(value *uint64, labels ...string) {
	if value != nil {
		emit(float64(*value), labels...)
	}
}

// Setting emits a setting that the kernel may not report: nil emits nothing.
func (emit Emit) Setting(value *bool, labels ...string) {
	if value != nil {
		emit.Bool(*value, labels...)
	}
}

// Metrics is the name of a collector and its metrics.
type Metrics struct {
	name    string
	metrics []Metric
	descs   []*prometheus.Desc
}

// NewMetrics makes the descriptions of the metrics of a collector.
func NewMetrics(name string, metrics ...Metric) Metrics {
	descs := make([]*prometheus.Desc, len(metrics))
	for i, m := range metrics {
		labels := make([]string, len(m.Labels))
		for j, l := range m.Labels {
			labels[j], _, _ = strings.Cut(l, "=")
		}
		descs[i] = prometheus.NewDesc(Namespace+"_"+m.Name, m.Help, labels, nil)
	}
	return Metrics{name, metrics, descs}
}

// Name is the collector's.
func (m Metrics) Name() string { return m.name }

// Declared lists the metrics.
func (m Metrics) Declared() []Metric { return m.metrics }

// Describe sends the descriptions.
func (m Metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range m.descs {
		ch <- d
	}
}

// Publish sends all samples of n.
func (m Metrics) Publish(n *node.Node, ch chan<- prometheus.Metric) {
	for i := range m.metrics {
		desc, valueType := m.descs[i], prometheus.GaugeValue
		if m.metrics[i].Type() == "counter" {
			valueType = prometheus.CounterValue
		}
		if m.metrics[i].Histograms != nil {
			m.metrics[i].Histograms(n, func(count uint64, sum float64, buckets map[float64]uint64, labels ...string) {
				ch <- prometheus.MustNewConstHistogram(desc, count, sum, buckets, labels...)
			})
			continue
		}
		m.metrics[i].Samples(n, func(value float64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(desc, valueType, value, labels...)
		})
	}
}

// DeviceLabel is a device's name as a label value. Linux allows any bytes in it but '/', ':' and white space
// (net/core/dev.c, dev_valid_name); a label must be UTF-8. Bytes that are not become U+FFFD and two hexadecimal digits,
// and U+FFFD itself becomes U+FFFD and "00", so that two names never become one label.
func DeviceLabel(name string) string {
	if utf8.ValidString(name) && !strings.ContainsRune(name, utf8.RuneError) {
		return name
	}
	var b strings.Builder
	for i, r := range name {
		switch {
		case r != utf8.RuneError:
			b.WriteRune(r)
		case strings.HasPrefix(name[i:], "\uFFFD"):
			b.WriteString("\uFFFD00")
		default:
			fmt.Fprintf(&b, "\uFFFD%02x", name[i])
		}
	}
	return b.String()
}
