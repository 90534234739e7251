package collectors

import (
	"strconv"

	"vxlan_exporter/internal/node"

	"github.com/prometheus/client_golang/prometheus"
)

type conntrackMetrics struct {
	flows, nat, seen, overflow                                             *prometheus.Desc
	entries, limit, buckets                                                *prometheus.Desc
	scanEntries, duration, timestamp, age, longestReceive, filtered, stale *prometheus.Desc
}

func newConntrackMetrics() conntrackMetrics {
	const sub = "conntrack"
	return conntrackMetrics{
		flows: desc(sub, "flows", "Tracked UDP flows whose original destination (CTA_TUPLE_ORIG, CTA_PROTO_DST_PORT) is a VXLAN port.",
			"family", "port"),
		nat: desc(sub, "nat_flows", "Of these, flows whose source (snat) or destination (dnat) is rewritten: "+
			"IPS_SRC_NAT or IPS_DST_NAT of CTA_STATUS, or a reply tuple that does not answer the original.", "family", "port", "nat"),
		seen: desc(sub, "nat_flows_seen_total", "Distinct NATed flows seen in any scan since the exporter started, by CTA_ID and tuples.",
			"family", "port", "nat"),
		overflow: desc(sub, "nat_flows_seen_overflow_total",
			"NATed flows left out of vxlan_conntrack_nat_flows_seen_total because more than 65536 live at a time, once in every scan."),
		entries: desc(sub, "entries", "Tracked connections of this network namespace: net.netfilter.nf_conntrack_count."),
		limit:   desc(sub, "entries_limit", "Most connections that may be tracked: net.netfilter.nf_conntrack_max."),
		buckets: desc(sub, "buckets", "Hash buckets of the table that all network namespaces share: net.netfilter.nf_conntrack_buckets."),

		scanEntries: desc(sub, "scan_entries", "Entries that the kernel sent in the scan served."),
		duration:    desc(sub, "scan_duration_seconds", "How long the scan served took."),
		timestamp:   desc(sub, "scan_timestamp_seconds", "When the scan served ended, Unix time."),
		age:         desc(sub, "scan_age_seconds", "Age of the scan served when this observation began; 0 when it was made for it."),
		longestReceive: desc(sub, "scan_longest_receive_seconds",
			"Longest single receive of the scan served, CPU time: packet reception (softirqs) on that CPU was held off at most so long."),
		filtered: desc(sub, "scan_filtered", "1 when the kernel filtered for the scan served (NLM_F_DUMP_FILTERED), 0 when everything was streamed."),
		stale:    desc(sub, "scan_stale", "1 when a later scan failed and this is the last complete one, else 0."),
	}
}

func (m *conntrackMetrics) all() []*prometheus.Desc {
	return []*prometheus.Desc{
		m.flows, m.nat, m.seen, m.overflow, m.entries, m.limit, m.buckets,
		m.scanEntries, m.duration, m.timestamp, m.age, m.longestReceive, m.filtered, m.stale,
	}
}

// Describe sends the descriptions of all metrics of this collector.
func (c *Conntrack) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.metrics.all() {
		ch <- d
	}
}

// Publish writes what the node says of its connection tracking table. Before the first complete scan there are no flow metrics at
// all: not having looked is not zero.
func (c *Conntrack) Publish(n *node.Node, ch chan<- prometheus.Metric) {
	m, t := &c.metrics, &n.Conntrack
	for _, g := range []struct {
		desc  *prometheus.Desc
		value *uint64
	}{{m.entries, t.Entries}, {m.limit, t.Limit}, {m.buckets, t.Buckets}} {
		if g.value != nil {
			gauge(ch, g.desc, float64(*g.value))
		}
	}
	if t.Scan == nil {
		return
	}
	for _, p := range t.Ports {
		port := strconv.Itoa(int(p.Port))
		gauge(ch, m.flows, float64(p.Flows), p.Family, port)
		gauge(ch, m.nat, float64(p.SNAT), p.Family, port, "snat")
		gauge(ch, m.nat, float64(p.DNAT), p.Family, port, "dnat")
		counter(ch, m.seen, float64(p.SeenSNAT), p.Family, port, "snat")
		counter(ch, m.seen, float64(p.SeenDNAT), p.Family, port, "dnat")
	}
	counter(ch, m.overflow, float64(t.SeenOverflow))
	gauge(ch, m.scanEntries, float64(t.Scan.Entries))
	gauge(ch, m.duration, t.Scan.Duration.Seconds())
	gauge(ch, m.timestamp, float64(t.Scan.Time.UnixMilli())/1000)
	gauge(ch, m.age, max(0, n.Time.Sub(t.Scan.Time)).Seconds())
	gauge(ch, m.longestReceive, t.Scan.LongestReceive.Seconds())
	gauge(ch, m.filtered, BoolValue(t.Scan.Filtered))
	gauge(ch, m.stale, BoolValue(t.Scan.Stale))
}
