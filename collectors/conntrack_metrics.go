package collectors

import (
	"strconv"
	"time"

	"vxlan_exporter/internal/node"
)

// conntrackMetrics has no metrics of flows before the first complete scan: not having scanned is not zero.
func conntrackMetrics() Metrics {
	ports := func(samples func(n *node.Node, p *node.ConntrackPort, port string, emit Emit)) func(*node.Node, Emit) {
		return func(n *node.Node, emit Emit) {
			if n.Conntrack.Scan == nil {
				return
			}
			for i := range n.Conntrack.Ports {
				p := &n.Conntrack.Ports[i]
				samples(n, p, strconv.Itoa(int(p.Port)), emit)
			}
		}
	}
	scan := func(value func(n *node.Node, s *node.Scan) float64) func(*node.Node, Emit) {
		return func(n *node.Node, emit Emit) {
			if s := n.Conntrack.Scan; s != nil {
				emit(value(n, s))
			}
		}
	}
	return NewMetrics("conntrack", Metric{
		Name:    "conntrack_entries",
		Help:    "Tracked connections of this network namespace: net.netfilter.nf_conntrack_count.",
		Samples: func(n *node.Node, emit Emit) { emit.Number(n.Conntrack.Entries) },
	}, Metric{
		Name:    "conntrack_entries_limit",
		Help:    "Most connections that may be tracked: net.netfilter.nf_conntrack_max.",
		Samples: func(n *node.Node, emit Emit) { emit.Number(n.Conntrack.Limit) },
	}, Metric{
		Name:    "conntrack_buckets",
		Help:    "Hash buckets of the table that all network namespaces share: net.netfilter.nf_conntrack_buckets.",
		Samples: func(n *node.Node, emit Emit) { emit.Number(n.Conntrack.Buckets) },
	}, Metric{
		Name: "conntrack_flows", Labels: []string{"family", "port"},
		Help:  "Tracked UDP flows whose original destination (CTA_TUPLE_ORIG, CTA_PROTO_DST_PORT) is a VXLAN port.",
		Notes: "0 with VXLAN traffic: the port is not tracked (NOTRACK), and this failure cannot happen.",
		Samples: ports(func(_ *node.Node, p *node.ConntrackPort, port string, emit Emit) {
			emit(float64(p.Flows), p.Family, port)
		}),
	}, Metric{
		Name: "conntrack_nat_flows", Labels: []string{"family", "port", "nat=snat,dnat"},
		Help: "Of these, flows whose source (snat) or destination (dnat) is rewritten: IPS_SRC_NAT or IPS_DST_NAT of " +
			"CTA_STATUS, or a reply tuple that does not answer the original.",
		Notes: "**Any snat is the cause of the failure.**",
		Samples: ports(func(_ *node.Node, p *node.ConntrackPort, port string, emit Emit) {
			emit(float64(p.SNAT), p.Family, port, "snat")
			emit(float64(p.DNAT), p.Family, port, "dnat")
		}),
	}, Metric{
		Name: "conntrack_nat_flows_seen_total", Labels: []string{"family", "port", "nat=snat,dnat"},
		SinceStart: true,
		Help:       "Distinct NATed flows seen in any scan since the exporter started, by CTA_ID and tuples.",
		Notes:      "A flow that lives as long as vxlan_conntrack_scan_interval_seconds is counted whatever the scrape interval.",
		Samples: ports(func(_ *node.Node, p *node.ConntrackPort, port string, emit Emit) {
			emit(float64(p.SeenSNAT), p.Family, port, "snat")
			emit(float64(p.SeenDNAT), p.Family, port, "dnat")
		}),
	}, Metric{
		Name: "conntrack_last_snat_timestamp_seconds", Labels: []string{"family", "port"},
		SinceStart: true,
		Help:       "When a scan last found a source-NATed flow, Unix time; absent where none did within an hour.",
		Samples: ports(func(n *node.Node, p *node.ConntrackPort, port string, emit Emit) {
			var last time.Time
			for _, s := range n.Conntrack.Sources {
				if s.Family == p.Family && s.Port == p.Port && s.Seen.After(last) {
					last = s.Seen
				}
			}
			if !last.IsZero() {
				emit(float64(last.UnixMilli())/1000, p.Family, port)
			}
		}),
	}, Metric{
		Name:       "conntrack_nat_flows_seen_overflow_total",
		SinceStart: true,
		Help: "NATed flows left out of vxlan_conntrack_nat_flows_seen_total because more than 65536 live at a time, once " +
			"in every scan.",
		Samples: scan(func(n *node.Node, _ *node.Scan) float64 { return float64(n.Conntrack.SeenOverflow) }),
	}, Metric{
		Name: "conntrack_scan_interval_seconds",
		Help: "Longest time from one scan to the next at the present pace, which follows --conntrack.max-cpu and what there " +
			"is to learn.",
		Notes: "A NATed flow that lives L seconds is seen with the probability L / interval or more. See " +
			"[PERFORMANCE.md](PERFORMANCE.md#how-often).",
		Samples: scan(func(n *node.Node, _ *node.Scan) float64 { return n.Conntrack.ScanInterval.Seconds() }),
	}, Metric{
		Name:    "conntrack_scan_entries",
		Help:    "Entries that the kernel sent in the scan served.",
		Samples: scan(func(_ *node.Node, s *node.Scan) float64 { return float64(s.Entries) }),
	}, Metric{
		Name:    "conntrack_scan_duration_seconds",
		Help:    "How long the scan served took.",
		Samples: scan(func(_ *node.Node, s *node.Scan) float64 { return s.Duration.Seconds() }),
	}, Metric{
		Name:    "conntrack_scan_timestamp_seconds",
		Help:    "When the scan served ended, Unix time.",
		Samples: scan(func(_ *node.Node, s *node.Scan) float64 { return float64(s.Time.UnixMilli()) / 1000 }),
	}, Metric{
		Name:    "conntrack_scan_age_seconds",
		Help:    "Age of the scan served when this observation began; 0 when it was made for it.",
		Samples: scan(func(n *node.Node, s *node.Scan) float64 { return max(0, n.Time.Sub(s.Time)).Seconds() }),
	}, Metric{
		Name: "conntrack_scan_longest_receive_seconds",
		Help: "Longest single receive of the scan served, CPU time: packet reception (softirqs) on that CPU was held off " +
			"at most so long.",
		Samples: scan(func(_ *node.Node, s *node.Scan) float64 { return s.LongestReceive.Seconds() }),
	}, Metric{
		Name:    "conntrack_scan_filtered",
		Help:    "1 when the kernel filtered for the scan served (NLM_F_DUMP_FILTERED), 0 when everything was streamed.",
		Samples: scan(func(_ *node.Node, s *node.Scan) float64 { return boolean(s.Filtered) }),
	}, Metric{
		Name:    "conntrack_scan_stale",
		Help:    "1 when a later scan failed and this is the last complete one, else 0.",
		Samples: scan(func(_ *node.Node, s *node.Scan) float64 { return boolean(s.Stale) }),
	})
}
