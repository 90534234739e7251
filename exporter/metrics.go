package exporter

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/node"
)

// Publisher turns an observation into metrics. Its descriptions are made once.
type Publisher struct {
	collectors []collectors.Collector
	results    collectors.Metrics
	judged     map[string]collectors.Metrics // by the collector that must have answered
}

// NewPublisher makes a publisher of the metrics of cs, of how they fared, and of what the diagnosis says.
func NewPublisher(cs []collectors.Collector) *Publisher {
	return &Publisher{cs, collectors.ResultMetrics(), collectors.JudgedMetrics()}
}

// Declared lists all metrics that may be published.
func (p *Publisher) Declared() (all []collectors.Metric) {
	for _, c := range p.collectors {
		all = append(all, c.Declared()...)
		all = append(all, p.judged[c.Name()].Declared()...)
	}
	return append(all, p.results.Declared()...)
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
	for _, c := range s.collectors {
		c.Describe(ch)
	}
	for _, m := range s.judged {
		m.Describe(ch)
	}
	s.results.Describe(ch)
}

// Collect writes the metrics.
func (s *scrape) Collect(ch chan<- prometheus.Metric) {
	kept := node.Node{Results: make(map[string]node.Result, len(s.collectors))}
	for _, c := range s.collectors {
		name := c.Name()
		if !s.keep(name) {
			continue
		}
		kept.Results[name] = s.seen.Node.Results[name]
		if s.seen.Answered[name] {
			c.Publish(s.seen.Node, ch)
			s.judged[name].Publish(s.seen.Node, ch)
		}
	}
	s.results.Publish(&kept, ch)
}

// filter reads the query parameters that choose collectors, as node_exporter has them: collect[] keeps only those
// named, exclude[] leaves those named out.
func filter(collect, exclude []string) func(string) bool {
	return func(name string) bool {
		if len(collect) > 0 {
			return slices.Contains(collect, name)
		}
		return !slices.Contains(exclude, name)
	}
}
