package prometheus_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/scrape"
)

// What the exporter really publishes, on both nodes of the live failure, makes the alerts what they should be. The
// scrapes before it stand for 5 minutes, those after it for the time since; test/lab/monitor has a real Prometheus for
// the time between.
func TestAlertsOnTheLiveFailure(t *testing.T) {
	t.Parallel()
	program := labtest.Binary(t)
	rig := labtest.NewRig(t, lab.LiveFailure())
	args := []string{
		"--conntrack.min-interval=0s", "--natrules.min-interval=0s",
		fmt.Sprintf("--vxlan.port=%d", rig.Options().Port),
	}
	sender, receiver := labtest.StartExporter(t, rig.A, program, args...),
		labtest.StartExporter(t, rig.B, program, args...)

	beforeA, beforeB := sender.Scrape(), receiver.Scrape()
	if answered, err := rig.Query(t.Context(), 3, 50*time.Millisecond); err != nil || answered != 0 {
		t.Fatalf("%d queries answered, %v; want none", answered, err)
	}
	const bad = `vxlan_receiver_bad_packets{family="ipv4"}`
	afterB := receiver.Scrape()
	for began := time.Now(); afterB[bad] == 0; afterB = receiver.Scrape() { // an exporter compares what is 5 s apart
		if time.Since(began) > 20*time.Second {
			t.Fatalf("%s is 0\n%s", bad, receiver.Log())
		}
		time.Sleep(500 * time.Millisecond)
	}
	series := slices.Concat(inputSeries("sender", beforeA, sender.Scrape()), inputSeries("receiver", beforeB, afterB))

	firing := func(at, alert string) map[string]any {
		return map[string]any{
			"eval_time": at,
			"expr": fmt.Sprintf(`count by (instance, device, port, variant) (ALERTS{alertname=%q,alertstate="firing"})`,
				alert),
		}
	}
	page, device := firing("5m15s", "VxlanChecksumFailure"), firing("8m", "VxlanDeviceSpoilsChecksums")
	page["exp_samples"] = []any{sample(`{}`)}
	device["exp_samples"] = []any{
		sample(`{instance="sender",device="flannel.1",port="8472",variant="offloaded_checksum"}`),
	}
	runPromtool(t, series, firing("5m", "VxlanChecksumFailure"), page, device,
		firing("8m", "VxlanChecksumErrors"), firing("8m", "VxlanExporterDown"), firing("8m", "VxlanCollectorFailing"))
}

// Every kind of series that the exporter has goes through the rules without an error; see testdata/metrics.txt.
func TestRulesTakeEveryMetric(t *testing.T) {
	t.Parallel()
	m, err := scrape.Parse(strings.NewReader(read(t, "../cmd/vxlan_exporter/testdata/metrics.txt")))
	if err != nil {
		t.Fatal(err)
	}
	other := maps.Clone(m)
	for series := range other {
		if strings.Contains(series, "_total") {
			other[series] += 5
		}
	}
	runPromtool(t, slices.Concat(inputSeries("one", m, other), inputSeries("two", m, m)), map[string]any{
		"eval_time": "6m", "expr": `count(ALERTS{alertname="VxlanChecksumFailure",alertstate="firing"})`,
		"exp_samples": []any{sample(`{}`)},
	})
}

// Of an alert for each node a cluster has ten, and the same ones all the time, whoever has most errors at the moment.
func TestAlertsOfNodesAreTen(t *testing.T) {
	t.Parallel()
	var series []any
	for node := range 40 {
		errors := fmt.Sprintf("0+%dx40 0+%dx40", 3000+node*100, 7000-node*100)
		for metric, values := range map[string]string{
			`up{`: "0x80", `vxlan_scrape_collector_success{collector="host",`: "0x80",
			`vxlan_sender_nat{device="flannel.1",family="ipv4",port="8472",variant="offloaded_checksum",`:                  "1x80",
			`vxlan_sender_nat{device="flannel.1",family="ipv4",port="8472",variant="unknown",`:                             "1x80",
			`vxlan_path_state{device="flannel.1",family="ipv4",state="mtu",`:                                               "1x80",
			`vxlan_socket_drops_total{family="ipv4",port="8472",`:                                                          "0x80",
			[]string{`vxlan_host_udp_in_csum_errors_total{family="ipv4",`, `vxlan_host_tcp_in_csum_errors_total{`}[node%2]: errors,
		} {
			target := fmt.Sprintf(`job="vxlan",instance="%d",cluster=%q}`, node, []string{"udp", "tcp"}[node%2])
			series = append(series, map[string]any{"series": metric + target, "values": values})
		}
	}
	ever := `count by (cluster) (count by (cluster, instance) (max_over_time(ALERTS{alertstate="firing",alertname=%q}[20m])))`
	var tests []map[string]any
	for _, r := range readRules(t) {
		if !strings.Contains(r.Expr, "topk") {
			continue
		}
		samples := []any{}
		for _, cluster := range []string{"tcp", "udp"} {
			if !strings.Contains(r.Alert, "ChecksumErrors") || (r.Alert == "VxlanInnerChecksumErrors") == (cluster == "tcp") {
				samples = append(samples, map[string]any{"labels": fmt.Sprintf("{cluster=%q}", cluster), "value": 10})
			}
		}
		tests = append(tests, map[string]any{"eval_time": "20m", "expr": fmt.Sprintf(ever, r.Alert), "exp_samples": samples})
	}
	runPromtool(t, series, tests...)
}

func sample(labels string) map[string]any { return map[string]any{"labels": labels, "value": 1} }

// inputSeries are an instance's two scrapes as promtool wants them: the first for 5 minutes, the second from then on.
func inputSeries(instance string, before, after scrape.Metrics) (series []any) {
	target := fmt.Sprintf(`job="vxlan",instance=%q`, instance)
	series = append(series, map[string]any{"series": "up{" + target + "}", "values": "1x40"})
	for _, name := range after.Names() {
		if !strings.HasPrefix(name, "vxlan_") {
			continue
		}
		values := fmt.Sprintf("_x21 %gx20", after[name])
		if v, ok := before[name]; ok {
			values = fmt.Sprintf("%gx20 %gx20", v, after[name])
		}
		metric, labels, _ := strings.Cut(name, "{")
		labels = strings.TrimPrefix(target+","+strings.TrimSuffix(labels, "}"), ",")
		series = append(series, map[string]any{
			"series": metric + "{" + strings.TrimSuffix(labels, ",") + "}",
			"values": values,
		})
	}
	return series
}

// runPromtool evaluates the rules over the series. It fails where a rule fails.
func runPromtool(t *testing.T, series []any, tests ...map[string]any) {
	t.Helper()
	rules, err := filepath.Abs("rules")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "test.yml")
	content, err := yaml.Marshal(map[string]any{
		"rule_files":          []string{rules + "/vxlan.alerts.yml"},
		"evaluation_interval": "15s",
		"tests":               []any{map[string]any{"interval": "15s", "input_series": series, "promql_expr_test": tests}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool := labtest.Server(t, "promtool")
	if out, err := exec.CommandContext(t.Context(), promtool, "test", "rules", file).CombinedOutput(); err != nil {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}
