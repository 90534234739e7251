package collectors

import (
	"strconv"

	"vxlan_exporter/internal/diagnosis"
	"vxlan_exporter/internal/node"
)

// JudgedMetrics is what the diagnosis says: a pure function of the node, published where the collector by which it
// stands has answered.
func JudgedMetrics() map[string]Metrics {
	return map[string]Metrics{
		// Of every device.
		"device": NewMetrics("", Metric{
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
		}),
		// Of recent NAT of outer packets.
		"conntrack": NewMetrics("", Metric{
			Name: "sender_nat", Labels: []string{"device", "family", "port", "variant=zero_checksum,offloaded_checksum,unknown"},
			Help: "Whether outer packets of the device were source-NATed within the last 2 minutes, by what follows: a " +
				"variant of the checksum failure (the exposure is or was active), or unknown (a condition is judged absent or " +
				"could not be read).",
			Notes: "All 0: none were. `device` is empty for flows that no device here sends: they are forwarded, or the " +
				"device was moved away. No verdict takes a device off the list.",
			Samples: func(n *node.Node, emit Emit) {
				for _, s := range diagnosis.Senders(n) {
					for _, variant := range []string{node.ZeroChecksum, node.OffloadedChecksum, diagnosis.VariantUnknown} {
						emit.Bool(s.Variant == variant, DeviceLabel(s.Device), s.Family, strconv.Itoa(int(s.Port)), variant)
					}
				}
			},
		}),
		// Of packets that arrived recently.
		"host": NewMetrics("", Metric{
			Name: "receiver_state", Labels: []string{"family", "state=quiet,vxlan,other,unclear"},
			SinceStart: true,
			Help: "Whether UDP packets with a bad checksum arrived within the last 2 minutes: quiet (none were seen), vxlan " +
				"(they are VXLAN's, as far as counters tell), other (they are not), unclear.",
			Notes: "What `check` says with that interval. See [DIAGNOSIS.md](DIAGNOSIS.md).",
			Samples: func(n *node.Node, emit Emit) {
				for _, r := range diagnosis.Receivers(n) {
					for _, state := range []diagnosis.ReceiverState{
						diagnosis.ReceivesNone, diagnosis.ReceivesVXLAN, diagnosis.ReceivesOther, diagnosis.ReceivesUnclear,
					} {
						emit.Bool(r.State == state, r.Family, string(state))
					}
				}
			},
		}, Metric{
			Name: "receiver_bad_packets", Labels: []string{"family"},
			SinceStart: true,
			Help: "Packets of the last 2 minutes that were dropped for a bad checksum and may be VXLAN's: the rise of " +
				"InCsumErrors, or where that stands still by how much more than usual connection tracking called invalid.",
			Notes: "Usual is the mean of up to 6 hours and 3 standard deviations. 0 in the states quiet and other.",
			Samples: func(n *node.Node, emit Emit) {
				for _, r := range diagnosis.Receivers(n) {
					if r.Bad != nil {
						emit(*r.Bad, r.Family)
					}
				}
			},
		}),
	}
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
	return NewMetrics("", Metric{
		Name: "scrape_collector_success", Labels: []string{"collector"},
		Help: "Whether the collector got its answer; 1 also where the node has no such thing (no connection " +
			"tracking, say).",
		Samples: each(func(r node.Result) float64 { return boolean(r.Succeeded()) }),
	}, Metric{
		Name: "scrape_collector_not_permitted", Labels: []string{"collector"},
		Help:    "Whether the kernel refused what the collector reads for want of a capability.",
		Samples: each(func(r node.Result) float64 { return boolean(r.Status == node.NotPermitted) }),
	}, Metric{
		Name: "scrape_collector_duration_seconds", Labels: []string{"collector"},
		Help:    "Time the collector took.",
		Samples: each(func(r node.Result) float64 { return r.Duration.Seconds() }),
	})
}
