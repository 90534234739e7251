package prometheus_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Most alerts of one name in a cluster, as prometheus/rules/vxlan.alerts.yml has it.
const most = 100

// repeat makes input series of nodes FROM to TO-1 of a cluster; %s in a series stands for the labels of the target.
func repeat(series, cluster string, from, to int, values string) (all []any) {
	for i := from; i < to; i++ {
		labels := fmt.Sprintf(`job="vxlan",cluster=%q,instance="%03d"`, cluster, i)
		all = append(all, map[string]any{"series": strings.Replace(series, "%s", labels, 1), "values": values})
	}
	return all
}

// count expects a number of alerts that fire; 0 is none at all.
func count(at int, selector, and string, alerts int) map[string]any {
	t := map[string]any{
		"eval_time": fmt.Sprintf("%dm", at),
		"expr":      fmt.Sprintf("count(ALERTS{alertstate=\"firing\",%s}%s)", selector, and),
	}
	if alerts > 0 {
		t["exp_samples"] = []any{map[string]any{"labels": "{}", "value": alerts}}
	}
	return t
}

const (
	nated   = `vxlan_conntrack_nat_flows{%s,family="ipv4",port="8472",nat="snat"}`
	device  = `vxlan_device_info{%s,device="flannel.1",port="8472",local="10.0.0.1"}`
	active  = `vxlan_device_exposure{%s,device="flannel.1",variant="offloaded_checksum",state="active"}`
	exposed = `vxlan_device_exposure{%s,device="flannel.1",variant="offloaded_checksum",state="exposed"}`
	dropped = `vxlan_host_udp_in_csum_errors_total{%s,family="ipv4"}`
)

// Kinds of alert that all nodes of a fleet can have at once. One cluster has 104 such nodes, another 3. Later a node
// joins those of the first, ahead of all others in Prometheus' order, and takes no place from one that has its alert.
func TestAlertsOfAWholeFleet(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		series []string // whose last value makes the alert
		values [2]int   // without the alert, and with it
		after  int      // minutes after which it fires
		more   []any
	}{
		"VxlanChecksumFailure": {
			series: []string{nated, active},
			values: [2]int{0, 1}, after: 1,
			more: slices.Concat(repeat(device, "large", 0, 105, "1x600"), repeat(device, "small", 0, 3, "1x600"),
				repeat(dropped, "large", 200, 201, "0+1x600"), repeat(dropped, "small", 200, 201, "0+1x600")),
		},
		"VxlanOuterNat":      {series: []string{nated}, values: [2]int{0, 1}, after: 3},
		"VxlanDeviceExposed": {series: []string{exposed}, values: [2]int{0, 1}, after: 62},
		"VxlanMasqueradeMarkKept": {
			series: []string{`vxlan_nat_masquerade_mark_state{%s,family="ipv4",backend="nft",state="kept"}`},
			values: [2]int{0, 1}, after: 17,
		},
		"VxlanSelftestAffected": {
			series: []string{`vxlan_kernel_nat_checksum_bug{%s,variant="zero_checksum",verdict="affected",evidence="selftest"}`},
			values: [2]int{0, 1}, after: 7,
		},
		`VxlanSelftestAffected",severity="info`: {
			series: []string{
				`vxlan_kernel_nat_checksum_bug{%s,variant="offloaded_checksum",verdict="affected",evidence="selftest"}`,
			},
			values: [2]int{0, 1}, after: 7,
		},
		"VxlanCollectorFailing": {
			series: []string{`vxlan_scrape_collector_success{%s,collector="conntrack"}`},
			values: [2]int{1, 0}, after: 17,
		},
		"VxlanExporterDown": {
			series: []string{`up{%s}`},
			values: [2]int{1, 0}, after: 7,
			more: slices.Concat(repeat(`vxlan_exporter_build_info{%s}`, "large", 0, 105, "1x4"),
				repeat(`vxlan_exporter_build_info{%s}`, "small", 0, 3, "1x4")),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			without, with := c.values[0], c.values[1]
			const begin = 10
			fires := begin + c.after
			late := fires + 2
			var series []any
			for _, s := range c.series {
				fail := fmt.Sprintf("%dx%d %dx600", without, begin*4, with)
				series = slices.Concat(series,
					// It failed once, so that Prometheus knows what is recorded of it, and has it first.
					repeat(s, "large", 0, 1, fmt.Sprintf("%dx4 %dx%d %dx600", with, without, late*4-5, with)),
					repeat(s, "large", 1, 105, fail), repeat(s, "small", 0, 3, fail))
			}
			large, small := fmt.Sprintf(`alertname="%s",cluster="large"`, name),
				fmt.Sprintf(`alertname="%s",cluster="small"`, name)
			end := late + 2 // a place that is taken is an alert that has gone
			runPromtool(t, slices.Concat(series, c.more),
				count(fires, large, "", most), count(fires, small, "", 3), count(end, large, "", most), count(end, small, "", 3),
				count(end, large, fmt.Sprintf(" and ALERTS offset %dm", end-fires), most))
		})
	}
}

// The one exposed node is named, though more nodes than there can be alerts have NAT that is harmless, and have had it
// for longer.
func TestExposedNodesComeFirst(t *testing.T) {
	t.Parallel()
	for receivers, drops := range map[string]string{
		"one packet": "0x40 1x600", // nobody but the exposed node is accused
		"many":       "0x40 5x600",
	} {
		t.Run(receivers, func(t *testing.T) {
			t.Parallel()
			alerts := 1
			if receivers == "many" {
				alerts = most
			}
			exposedOne := count(11, `alertname="VxlanChecksumFailure",instance="204",variant="offloaded_checksum"`, "", 1)
			runPromtool(t, slices.Concat(
				repeat(nated, "eu", 0, 204, "1x600"), repeat(nated, "eu", 204, 205, "0x40 1x600"),
				repeat(device, "eu", 0, 205, "1x600"),
				repeat(active, "eu", 0, 204, "0x600"), repeat(active, "eu", 204, 205, "0x40 1x600"),
				repeat(dropped, "eu", 300, 301, drops),
			), exposedOne, count(11, `alertname="VxlanChecksumFailure"`, "", alerts))
		})
	}
}
