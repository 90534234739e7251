package collectors

import (
	"github.com/prometheus/client_golang/prometheus"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

// Exposure publishes what the diagnosis says of every device. It reads nothing: it is a pure function of what the collectors observed.
type Exposure struct{ exposure *prometheus.Desc }

// NewExposure makes the publisher.
func NewExposure() *Exposure {
	return &Exposure{desc("device", "exposure",
		"Whether the device is exposed to a variant of the checksum failure: clear (a condition is known to be absent), exposed (all conditions hold), active (and NATed flows are there), unknown (a condition could not be read).",
		"device", "variant", "state")}
}

// Describe sends the description of the metric.
func (e *Exposure) Describe(ch chan<- *prometheus.Desc) { ch <- e.exposure }

// Publish writes all states of every device and variant.
func (e *Exposure) Publish(n *node.Node, ch chan<- prometheus.Metric) {
	for _, x := range diagnosis.Exposures(n) {
		for _, state := range []diagnosis.State{diagnosis.Clear, diagnosis.Exposed, diagnosis.Active, diagnosis.Unknown} {
			gauge(ch, e.exposure, BoolValue(x.State == state), DeviceLabel(x.Device), x.Variant, string(state))
		}
	}
}
