package prometheus_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"vxlan_exporter/test/lab/scrape"
)

// A rule that cannot be evaluated pages nobody: "many-to-many matching not allowed", "duplicate series for the match
// group", "vector contains metrics with the same labelset". Prometheus finds that out when the labels are there, so
// here they all are, by chance: jobs that scrape one node, clusters with equal names, targets whose other labels
// changed, series that come, go, and start again, and of each metric whatever labels it can have at once. promtool
// fails where a rule does.
func TestRulesTakeWhateverLabelsThereAre(t *testing.T) {
	t.Parallel()
	published := publishedLabels(t)
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(seed, 1))
			var series []any
			for _, target := range hostileTargets(r) {
				series = append(series, input(r, "up", target, "1x41", "1x10 0x10 1x20"))
				for _, metric := range slices.Sorted(maps.Keys(published)) {
					for _, labels := range product(published[metric]) {
						if r.IntN(3) == 0 {
							continue
						}
						maps.Copy(labels, target)
						series = append(series, input(r, metric, labels,
							"1x41", "0x41", "0+1x41", "0+7x41", "5x10 6x10 0x10 3x10", "1x12 stale 1x28", "_x15 2x26", "1x8 stale",
							"0x20 1x21", "900x20 0+2x20"))
					}
				}
			}
			runPromtool(t, series,
				map[string]any{
					"eval_time": "10m", "expr": `count(ALERTS{alertname="VxlanChecksumFailure"}) > bool 0`,
					"exp_samples": []any{sample("{}")},
				})
		})
	}
}

// hostileTargets are a few targets that share what they can.
func hostileTargets(r *rand.Rand) (targets []map[string]string) {
	for _, t := range product(map[string][]string{
		"job": {"vxlan", "vxlan-2"}, "instance": {"a", "b"}, "cluster": {"", "eu"}, "pod": {"", "p", "q"},
	}) {
		if r.IntN(3) == 0 {
			targets = append(targets, t)
		}
	}
	return targets
}

// publishedLabels are the metrics that the rules read, with all values of their labels that testdata/metrics.txt has,
// and some more.
func publishedLabels(t *testing.T) map[string]map[string][]string {
	t.Helper()
	used := map[string]bool{}
	for _, r := range readRules(t) {
		metrics, _ := metricNames(r.Expr)
		for _, m := range metrics {
			used[m] = true
		}
	}
	m, err := scrape.Parse(strings.NewReader(read(t, "../cmd/vxlan_exporter/testdata/metrics.txt")))
	if err != nil {
		t.Fatal(err)
	}
	published := map[string]map[string][]string{}
	for series := range m {
		name, labels, _ := strings.Cut(strings.TrimSuffix(series, "}"), "{")
		if !used[name] {
			continue
		}
		if published[name] == nil {
			published[name] = map[string][]string{}
		}
		for pair := range strings.SplitSeq(labels, ",") {
			if label, value, ok := strings.Cut(pair, "="); ok && !slices.Contains(published[name][label],
				strings.Trim(value, `"`)) {
				published[name][label] = append(published[name][label], strings.Trim(value, `"`))
			}
		}
	}
	for name := range used {
		if published[name] == nil {
			t.Fatalf("%s is not in testdata/metrics.txt", name)
		}
	}
	delete(published, "vxlan_device_info")
	published["vxlan_device_info"] = map[string][]string{
		"device": {"flannel.1", "vxlan-v6.calico"}, "vni": {"1", "2"}, "port": {"8472"},
		"local":    {"", "192.168.77.1", "192.168.77.2", "fd77::1"},
		"underlay": {"eth0"}, "external": {"false"}, "family": {"ipv4", "ipv6"},
	}
	published["vxlan_wire_packets_total"] = map[string][]string{
		"family": {"ipv4", "ipv6"}, "direction": {"in", "out"}, "verdict": {"ok", "bad"},
	}
	return published
}

// product is every combination of the values, in order.
func product(values map[string][]string) []map[string]string {
	all := []map[string]string{{}}
	for _, label := range slices.Sorted(maps.Keys(values)) {
		var next []map[string]string
		for _, labels := range all {
			for _, v := range values[label] {
				with := maps.Clone(labels)
				if v != "" {
					with[label] = v
				}
				next = append(next, with)
			}
		}
		all = next
	}
	return all
}

// input is a series for promtool with one of the values.
func input(r *rand.Rand, metric string, labels map[string]string, values ...string) map[string]any {
	return map[string]any{"series": scrape.Series(metric, labels), "values": values[r.IntN(len(values))]}
}
