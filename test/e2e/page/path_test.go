//go:build e2e

package page_test

import (
	"strings"
	"testing"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/monitor"
	"vxlan_exporter/test/lab/scrape"
)

// A path that spoils checksums pages with no traffic but the probe's own, by the shipped rules.
func TestPathPages(t *testing.T) {
	t.Parallel()
	root, err := scrape.Root()
	must(t, err)
	network := labtest.NewNetwork(t)
	rig := labtest.NewRig(t, live(func(*lab.Options) {}))
	var targets []monitor.Target
	for i, n := range []*lab.NS{rig.A, rig.B} {
		address := labtest.Attach(t, network, n)
		labtest.StartExporterAt(t, n, address, labtest.Binary(t), "--collector.path", "--path.interval=10s")
		targets = append(targets,
			monitor.Target{Address: address, Labels: map[string]string{
				"cluster":  "path",
				"instance": []string{"sender", "receiver"}[i],
			}})
	}
	stack := labtest.StartMonitor(t, network, monitor.Options{
		Prometheus: root + "/prometheus/prometheus.yml", Alertmanager: root + "/prometheus/alertmanager.yml",
		Targets: targets,
	})
	began := time.Now()
	for time.Since(began) < 5*time.Minute {
		all, err := stack.Webhook.Notifications()
		must(t, err)
		for _, n := range all {
			for _, a := range n.Alerts {
				if n.Receiver != pager || a.Labels["alertname"] != "VxlanPathSpoilsChecksums" {
					continue
				}
				t.Logf("paged after %s: %s", time.Since(began).Round(time.Second), a.Annotations["summary"])
				if a.Labels["cluster"] != "path" || a.Labels["state"] != "nat" || a.Labels["cause"] != "outer_nat" {
					t.Errorf("%v", a.Labels)
				}
				named := "type there: sender, overlay ipv4: `ethtool -K " + lab.Device + " tx-checksum-ip-generic off`; 1 in all"
				if d := a.Annotations["description"]; !strings.Contains(d, named) {
					t.Errorf("the page does not say %q: %s", named, d)
				}
				return
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Error("no page")
}
