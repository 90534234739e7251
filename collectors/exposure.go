package collectors

import (
	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

// ExposureMetrics is what the diagnosis says of every device. No collector observes it: it is a pure function of the
// node.
func ExposureMetrics() Metrics {
	return NewMetrics(Metric{
		Name:   "device_exposure",
		Labels: []string{"device", "variant=zero_checksum,offloaded_checksum", "state=clear,exposed,active,unknown"},
		Help: "Whether the device is exposed to a variant of the checksum failure: clear (a condition is known to be " +
			"absent), exposed (all conditions hold), active (and NATed flows are there), unknown (a condition could not be " +
			"read).",
		Notes: "See [DIAGNOSIS.md](DIAGNOSIS.md).",
		Samples: func(n *node.Node, emit Emit) {
			for _, e := range diagnosis.Exposures(n) {
				for _, state := range []diagnosis.State{diagnosis.Clear, diagnosis.Exposed, diagnosis.Active, diagnosis.Unknown} {
					emit.Bool(e.State == state, DeviceLabel(e.Device), e.Variant, string(state))
				}
			}
		},
	})
}

// ResultMetrics is how the collectors fared.
func ResultMetrics() Metrics {
	each := func(value func(r node.Result) float64) func(*node.Node, Emit) {
		return func(n *node.Node, emit Emit) {
			for name, r := range n.Results {
				emit(value(r), name)
			}
		}
	}
	return NewMetrics(
		Metric{
			Name: "scrape_collector_success", Labels: []string{"collector"},
			Help: "Whether the collector got its answer; 1 also where the node has no such thing (no connection " +
				"tracking, say).",
			Samples: each(func(r node.Result) float64 { return boolean(r.Succeeded()) }),
		},
		Metric{
			Name: "scrape_collector_not_permitted", Labels: []string{"collector"},
			Help:    "Whether the kernel refused what the collector reads for want of a capability.",
			Samples: each(func(r node.Result) float64 { return boolean(r.Status == node.NotPermitted) }),
		},
		Metric{
			Name: "scrape_collector_duration_seconds", Labels: []string{"collector"},
			Help:    "Time the collector took.",
			Samples: each(func(r node.Result) float64 { return r.Duration.Seconds() }),
		},
	)
}
