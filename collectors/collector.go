// Package collectors observes the node and publishes the observation. Each collector has a file: Observe reads the
// kernel, Metrics declare what is published, a pure function of the node. Collectors know nothing of HTTP and nothing
// of each other.
package collectors

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"vxlan_exporter/internal/node"
)

// Collector is one source of the node's state.
//
// Observe reads it within ctx's deadline. known is what is known already (for every collector but the one that finds
// them: the devices and ports of now, and all else as the last observation found it) and must only be read. What was
// found is returned as a function that stores it, so that a late answer can be thrown away without a race; fill may be
// non-nil together with an error, when a part could be read. The error says what was read, from where, and what to do,
// and wraps a standard error that node.Classify understands. Observe is never called twice at the same time.
//
// Describe and Publish are those of Metrics. Publish is not called when the observation has nothing of this collector.
type Collector interface {
	Name() string
	Observe(ctx context.Context, known *node.Node) (fill Fill, err error)
	Describe(ch chan<- *prometheus.Desc)
	Publish(n *node.Node, ch chan<- prometheus.Metric)
}

// Fill stores a collector's part of an observation.
type Fill func(*node.Node)
