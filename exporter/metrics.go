package exporter

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/node"
)

// Publisher turns an observation into metrics. Its descriptions are made once.
type Publisher struct {
	collectors                      []collectors.Collector
	success, notPermitted, duration *prometheus.Desc
	exposure                        *collectors.Exposure
}

// NewPublisher makes a publisher of the metrics of cs, of how they fared, and of the judgement on the devices.
func NewPublisher(cs []collectors.Collector) *Publisher {
	const ns = collectors.Namespace
	d := func(subsystem, name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(ns, subsystem, name), help, labels, nil)
	}
	return &Publisher{
		collectors: cs,
		success: d("scrape", "collector_success",
			"Whether the collector got its answer; 1 also where the node has no such thing (no connection tracking, say).", "collector"),
		notPermitted: d("scrape", "collector_not_permitted",
			"Whether the kernel refused the collector's reading for want of a capability.", "collector"),
		duration: d("scrape", "collector_duration_seconds", "Time the collector took.", "collector"),
		exposure: collectors.NewExposure(),
	}
}

// Of is the collector for one scrape: the observation's metrics, of the collectors that keep lets through.
func (p *Publisher) Of(o *Observation, keep func(name string) bool) prometheus.Collector {
	return &scrape{p, o, keep}
}

type scrape struct {
	*Publisher
	seen *Observation
	keep func(name string) bool
}

// Describe sends all descriptions, those of collectors that are not kept too.
func (s *scrape) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{s.success, s.notPermitted, s.duration} {
		ch <- d
	}
	for _, c := range s.collectors {
		c.Describe(ch)
	}
	s.exposure.Describe(ch)
}

// Collect writes the metrics.
func (s *scrape) Collect(ch chan<- prometheus.Metric) {
	for _, c := range s.collectors {
		name := c.Name()
		if !s.keep(name) {
			continue
		}
		r := s.seen.Node.Results[name]
		ch <- prometheus.MustNewConstMetric(s.success, prometheus.GaugeValue, collectors.BoolValue(r.Succeeded()), name)
		ch <- prometheus.MustNewConstMetric(s.notPermitted, prometheus.GaugeValue, collectors.BoolValue(r.Status == node.NotPermitted), name)
		ch <- prometheus.MustNewConstMetric(s.duration, prometheus.GaugeValue, r.Duration.Seconds(), name)
		if s.seen.Answered[name] {
			c.Publish(s.seen.Node, ch)
		}
	}
	if s.keep("device") && s.seen.Answered["device"] {
		s.exposure.Publish(s.seen.Node, ch)
	}
}

// filter reads the query parameters that choose collectors, as node_exporter has them: collect[] keeps only those named,
// exclude[] leaves those named out.
func filter(collect, exclude []string) func(string) bool {
	return func(name string) bool {
		if len(collect) > 0 {
			return slices.Contains(collect, name)
		}
		return !slices.Contains(exclude, name)
	}
}
