//go:build load

package load_test

import (
	"context"
	"flag"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/monitor"
	"vxlan_exporter/test/lab/scrape"
)

var (
	rulesTime     = flag.Duration("rules", 5*time.Minute, "how long a failing fleet is scraped")
	fleetNodes    = flag.Int("fleet-nodes", 5000, "its nodes")
	fleetClusters = flag.Int("fleet-clusters", 1, "the clusters that they are in")
)

// mostForGroup is how long a group may take, in seconds: twice what docs/SCALE.md has measured. The page's is evaluated
// every 15 s.
const mostForGroup = 1.7

// The shipped rules are cheap where a whole fleet fails: every node is testdata/metrics.txt with one VXLAN device, of
// which nearly every alert fires, with counters that rise by 20 a second.
func TestRulesOfFailingFleet(t *testing.T) {
	root, err := scrape.Root()
	if err != nil {
		t.Fatal(err)
	}
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	rules := read("prometheus/rules/vxlan.alerts.yml")
	published, err := scrape.Parse(strings.NewReader(read("cmd/vxlan_exporter/testdata/metrics.txt")))
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "prometheus.yml") // scrapes are to cost little beside the rules
	rare := strings.NewReplacer("scrape_interval: 15s", "scrape_interval: 30s", "- rules/", "- "+root+"/prometheus/rules/")
	if err := os.WriteFile(config, []byte(rare.Replace(read("prometheus/prometheus.yml"))), 0o600); err != nil {
		t.Fatal(err)
	}
	other, began := regexp.MustCompile(`device="[^f]`), time.Now()
	exposition := func(w http.ResponseWriter, _ *http.Request) {
		for _, series := range published.Names() {
			name, _, _ := strings.Cut(series, "{")
			value := published[series]
			if strings.HasSuffix(name, "_total") {
				value += 20 * time.Since(began).Seconds()
			}
			if strings.Contains(rules, name) && !other.MatchString(series) {
				fmt.Fprintf(w, "%s %g\n", series, value)
			}
		}
	}
	network := labtest.NewNetwork(t)
	server := &http.Server{Handler: http.HandlerFunc(exposition), ReadHeaderTimeout: time.Minute}
	listener := labtest.Listen(t, network.NS, netip.MustParseAddrPort("0.0.0.0:10059"))
	go func() { _ = server.Serve(listener) }()
	var targets []monitor.Target
	for i := range *fleetNodes {
		targets = append(targets, monitor.Target{
			Address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(i >> 8), byte(i)}), 10059),
			Labels:  map[string]string{"cluster": fmt.Sprintf("eu-%d", i%*fleetClusters)},
		})
	}
	stack := labtest.StartMonitor(t, network, monitor.Options{Prometheus: config, Targets: targets})
	waiting, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := stack.WaitScraped(waiting, len(targets), 2); err != nil {
		t.Fatal(err)
	}

	took := map[string][]float64{} // by group, seconds
	last := regexp.MustCompile(`(?m)^prometheus_rule_group_last_duration_seconds\{rule_group=".*;(.*)"\} (.*)$`)
	for end := time.Now().Add(*rulesTime); time.Now().Before(end); time.Sleep(5 * time.Second) {
		body, err := stack.Prometheus.Get(t.Context(), "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range last.FindAllStringSubmatch(string(body), -1) {
			v, err := strconv.ParseFloat(m[2], 64)
			if err != nil {
				t.Fatal(err)
			}
			if all := took[m[1]]; len(all) == 0 || all[len(all)-1] != v {
				took[m[1]] = append(all, v)
			}
		}
	}
	alerts, err := stack.Query(t.Context(), `count by (alertname, severity) (ALERTS)`)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("alerts: %v", alerts)
	if len(alerts) < 8 || len(took) == 0 {
		t.Errorf("%d alerts in groups %v", len(alerts), took)
	}
	for group, seconds := range took {
		slices.Sort(seconds)
		median := seconds[len(seconds)/2]
		t.Logf("%s: %.3f s, %.3f to %.3f in %d evaluations", group, median, seconds[0], seconds[len(seconds)-1], len(seconds))
		if median > mostForGroup {
			t.Errorf("%s takes %.3f s; want %g s at most", group, median, mostForGroup)
		}
	}
}
