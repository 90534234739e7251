package collectors

import "vxlan_exporter/internal/node"

func wireMetrics() Metrics {
	each := func(samples func(w *node.Wire, emit Emit)) func(*node.Node, Emit) {
		return func(n *node.Node, emit Emit) {
			if n.Wire != nil {
				samples(n.Wire, emit)
			}
		}
	}
	return NewMetrics(
		Metric{
			Name: "wire_packets_total", Labels: []string{"family", "direction=in,out", "verdict"},
			Help: "VXLAN packets with a UDP checksum field other than 0 on the underlay NICs, by verdict on that field, " +
				"each counted for as many as it stands for (AF_PACKET). A GSO packet counts once.",
			Notes: "`ok`; `completed_ok`: right once the inner sum is finished; `partial`: to be finished by the NIC; " +
				"`unjudgeable`; `bad`.",
			Samples: each(func(w *node.Wire, emit Emit) {
				for _, p := range w.Packets {
					emit(p.Packets, p.Family, p.Direction, p.Verdict)
				}
			}),
		},
		Metric{
			Name: "wire_bad_packets_total", Labels: []string{"direction=in,out", "peer", "variant"},
			Help: "VXLAN packets with a wrong outer UDP checksum, by sender (in) or receiver (out) and variant, each " +
				"counted for as many as it stands for.",
			Notes: "At most `--wire.max-peers` peers, then `other`. Variants: `zero_checksum`, `offloaded_checksum`, " +
				"`unfinished_checksum` (a NIC or hypervisor left the pseudo-header's sum), `unknown`.",
			Samples: each(func(w *node.Wire, emit Emit) {
				for _, b := range w.Bad {
					emit(b.Packets, b.Direction, b.Peer, b.Variant)
				}
			}),
		},
		Metric{
			Name: "wire_sample_ratio", Labels: []string{"direction=in,out"},
			Help: "Share of the VXLAN packets with a checksum that is judged now; 1 is all of them. Picked at random " +
				"(SKF_AD_RANDOM), and a busy NIC is captured on part of the time; of several NICs, the least.",
			Notes: "Picked at random above `--wire.max-packets-per-second`; a NIC that carries more than 100,000 packets a " +
				"second in a direction is captured on part of the time. Below 1, a single bad packet may be missed.",
			Samples: each(func(w *node.Wire, emit Emit) {
				emit(w.SampleRatio, "in")
				emit(w.SampleRatioOut, "out")
			}),
		},
		Metric{
			Name:    "wire_captured_packets_total",
			Help:    "VXLAN packets that were judged, not scaled up.",
			Samples: each(func(w *node.Wire, emit Emit) { emit(float64(w.Captured)) }),
		},
		Metric{
			Name: "wire_lost_packets_total",
			Help: "VXLAN packets that were picked but not judged: the socket's queue was full (tp_drops of " +
				"PACKET_STATISTICS) or the kernel could not describe them.",
			Samples: each(func(w *node.Wire, emit Emit) { emit(float64(w.Lost)) }),
		},
		Metric{
			Name:    "wire_interfaces",
			Help:    "Underlay NICs that are captured on and up.",
			Samples: each(func(w *node.Wire, emit Emit) { emit(float64(len(w.Interfaces))) }),
		},
	)
}
