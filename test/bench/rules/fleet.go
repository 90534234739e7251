package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// nodeText is a scrape of the sending node of the rig (lab.LiveFailure) in the middle of the failure, without the packet probe.
//
//go:embed node.txt
var nodeText string

// nodeAddress is that node's underlay address.
const nodeAddress = "192.168.77.1"

// fleet answers for many nodes: /metrics/N is node N's.
type fleet struct {
	nodes   int
	failing atomic.Int64 // nodes 0 to failing-1 send and receive bad packets
	started time.Time    // for the dashboards, some time ago: docs/METRICS.md's counters then have a past
}

// instance is the label of a node.
func instance(node int) string { return fmt.Sprintf("node-%05d:10059", node) }

// address of a node on the underlay: 10.0.0.0/8.
func address(node int) string {
	return fmt.Sprintf("10.%d.%d.%d", node>>16&255, node>>8&255, node&255)
}

// targets writes the file from which Prometheus learns the nodes (file_sd_config).
func (f *fleet) targets(w io.Writer, hostPort string) error {
	type group struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	groups := make([]group, f.nodes)
	for i := range groups {
		groups[i] = group{[]string{hostPort}, map[string]string{
			"instance": instance(i), "__metrics_path__": "/metrics/" + strconv.Itoa(i),
		}}
	}
	return json.NewEncoder(w).Encode(groups)
}

func (f *fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	node, err := strconv.Atoi(strings.TrimPrefix(r.URL.Path, "/metrics/"))
	if err != nil || node < 0 || node >= f.nodes {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	_, _ = io.WriteString(w, f.text(node, time.Since(f.started))) // whoever asked may have gone
}

// text is a node's metrics at an age of the fleet.
func (f *fleet) text(node int, age time.Duration) string {
	values := f.values(node, age)
	var b strings.Builder
	for line := range strings.Lines(nodeText) {
		series, _ := sample(line)
		if v, ok := values[series]; ok {
			fmt.Fprintf(&b, "%s %g\n", series, v)
			continue
		}
		b.WriteString(strings.Replace(line, nodeAddress, address(node), 1))
	}
	return b.String()
}

// sample is a line's series and value; of a comment nothing that has a meaning.
func sample(line string) (series, value string) {
	line = strings.TrimSuffix(line, "\n")
	if series, value, ok := strings.Cut(line, "} "); ok {
		return series + "}", value
	}
	series, value, _ = strings.Cut(line, " ")
	return series, value
}

// values are those that differ from nodeText's: what fails on failing nodes, what is clear on the others, and what moves on all.
func (f *fleet) values(node int, age time.Duration) map[string]float64 {
	seconds := age.Seconds()
	noise := float64(int(seconds) / 60 * (node % 3)) // 0 to 2 invalid packets a minute, as on any node
	v := map[string]float64{
		"vxlan_conntrack_entries":                            float64(1000 + node%500 + int(seconds)%60),
		"vxlan_conntrack_scan_timestamp_seconds":             float64(f.started.Unix()) + seconds,
		"process_cpu_seconds_total":                          seconds / 100,
		"go_memstats_alloc_bytes_total":                      seconds * 1e5,
		"vxlan_host_conntrack_invalid_total":                 noise,
		`vxlan_host_udp_in_csum_errors_total{family="ipv4"}`: float64(node),
	}
	const (
		nat   = `vxlan_conntrack_nat_flows{family="ipv4",nat="snat",port="8472"}`
		seen  = `vxlan_conntrack_nat_flows_seen_total{family="ipv4",nat="snat",port="8472"}`
		csum  = `vxlan_host_udp_in_csum_errors_total{family="ipv4"}`
		state = `vxlan_device_exposure{device="flannel.1",state=%q,variant="offloaded_checksum"}`
		guard = `vxlan_nat_masquerade_mark_state{backend="legacy",family=%q,state=%q}`
	)
	if node < int(f.failing.Load()) {
		v[seen] = float64(int(seconds) / 30)
		v[csum] += float64(int(seconds) / 5)
		return v // nodeText is of a failing node
	}
	v[nat], v[seen] = 0, 0
	v[fmt.Sprintf(state, "active")], v[fmt.Sprintf(state, "clear")] = 0, 1
	for _, family := range []string{"ipv4", "ipv6"} {
		v[fmt.Sprintf(guard, family, "kept")], v[fmt.Sprintf(guard, family, "cleared")] = 0, 1
	}
	return v
}
