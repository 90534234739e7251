package collectors

import (
	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

func pathMetrics() Metrics {
	packets := func(count func(c node.PathCount) int) func(n *node.Node, emit Emit) {
		return func(n *node.Node, emit Emit) {
			eachPath(n, func(t *node.PathTotal, device string) {
				emit(float64(count(t.Plain)), device, t.Family, "none", "offloaded")
				emit(float64(count(t.PlainSoftware)), device, t.Family, "none", "software")
				emit(float64(count(t.Marked)), device, t.Family, "masquerade", "offloaded")
				emit(float64(count(t.MarkedSoftware)), device, t.Family, "masquerade", "software")
			})
		}
	}
	labels := []string{"device", "family", "mark=none,masquerade", "checksum=offloaded,software"}
	return NewMetrics(
		Metric{
			Name: "path_packets_sent_total", Labels: labels,
			Help: "Small packets that the probe sent to peers, by mark (SO_MARK) and by who finishes their checksum.",
			Notes: "Packets that fill the MTU are not counted. More are sent of what is lost, so the share of answers is no " +
				"loss rate.",
			Samples: packets(func(c node.PathCount) int { return c.Sent }),
		},
		Metric{
			Name: "path_packets_answered_total", Labels: labels,
			Help:    "Small packets of the probe that a peer's kernel answered.",
			Samples: packets(func(c node.PathCount) int { return c.Answered }),
		},
		Metric{
			Name: "path_state", Labels: []string{"device", "family", "state=nat,offload,mtu,ok,unknown,unreachable"},
			Help: "What the last probe found on the way to its peers: ok (marked packets with unfinished checksums arrive), " +
				"nat (these alone are lost), offload (unfinished checksums are lost, marked or not), mtu (packets that fill the " +
				"MTU are lost), unreachable (nothing is answered), unknown.",
			Notes: "Of several peers and senders the first state in this order that any has. See [PROBE.md](PROBE.md).",
			Samples: func(n *node.Node, emit Emit) {
				for _, v := range diagnosis.PathStates(n) {
					for _, state := range node.PathStates() {
						emit.Bool(v.State == state, DeviceLabel(v.Device), v.Family, string(state))
					}
				}
			},
		},
		Metric{
			Name: "path_last_probe_timestamp_seconds", Labels: []string{"device", "family"},
			Help: "When the last round of the probe that asked a peer of the device began, in seconds since the epoch.",
			Samples: func(n *node.Node, emit Emit) {
				eachPath(n, func(t *node.PathTotal, device string) {
					emit(float64(t.Time.UnixMilli())/1000, device, t.Family)
				})
			},
		},
		Metric{
			Name: "path_round_trip_seconds", Labels: []string{"device", "family"},
			Help:  "Time from a packet of the probe to its answer, of all kinds of packets.",
			Notes: "Sent in a burst: up to a millisecond more than a single packet takes.",
			Histograms: func(n *node.Node, emit EmitHistogram) {
				eachPath(n, func(t *node.PathTotal, device string) {
					bounds := node.PathRoundTripBuckets()
					if len(t.RoundTrips) != len(bounds)+1 {
						return
					}
					buckets := map[float64]uint64{}
					for i, b := range bounds {
						buckets[b.Seconds()] = t.RoundTrips[i]
					}
					emit(t.RoundTrips[len(bounds)], t.Waited.Seconds(), buckets, device, t.Family)
				})
			},
		},
	)
}

func eachPath(n *node.Node, f func(t *node.PathTotal, device string)) {
	if n.Path == nil {
		return
	}
	for i := range n.Path.Totals {
		f(&n.Path.Totals[i], DeviceLabel(n.Path.Totals[i].Device))
	}
}
