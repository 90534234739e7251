//go:build e2e

package monitor_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/monitor"
)

// From the node to the notification, over management links that the node's NAT rules do not touch.
func TestStack(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	o := lab.LiveFailure()
	o.Rules = lab.RulesBypassed // masquerades whatever leaves the cluster
	r := labtest.NewRig(t, o)
	network := labtest.NewNetwork(t)

	var targets []monitor.Target
	for instance, n := range map[string]*lab.NS{"node-a:10059": r.A, "node-b:10059": r.B} {
		address := labtest.Attach(t, network, n)
		e := labtest.StartExporterAt(t, n, address, labtest.Binary(t))
		if e.Scrape()["vxlan_exporter_build_info"] == 0 && e.Log() == "" {
			t.Errorf("%s does not answer on its own management address", instance)
		}
		targets = append(targets,
			monitor.Target{Address: address, Labels: map[string]string{"cluster": "one", "instance": instance}})
	}
	s := labtest.StartMonitor(t, network, monitor.Options{
		Prometheus: "testdata/prometheus.yml", Alertmanager: "testdata/alertmanager.yml", Targets: targets,
	})
	must(t, s.WaitScraped(ctx, 2, 2))
	up, err := s.Query(ctx, `vxlan_device_info{cluster="one",instance="node-b:10059"}`)
	if err != nil || len(up) != 1 || up[0].Value != 1 || up[0].Metric["local"] != "192.168.77.2" {
		t.Errorf("the receiver's device: %v, %v", up, err)
	}
	if v, err := s.Query(ctx, "sum("); err == nil || !strings.Contains(err.Error(), "parse error") {
		t.Errorf("a broken query gives %v, %v", v, err)
	}

	// conntrack(8) says of every scrape that arrived that its answer goes out as it is.
	flows, err := r.A.Run("conntrack", "-L", "-p", "tcp", "--orig-port-dst", "10059", "-s", "198.18.0.1")
	must(t, err)
	if flows == "" {
		t.Error("connection tracking saw no scrape")
	}
	for flow := range strings.Lines(flows) {
		if strings.Count(flow, "src=198.18.0.1 ") != 1 || strings.Count(flow, "dst=198.18.0.1 ") != 1 ||
			strings.Count(flow, "port=10059 ") != 2 {
			t.Errorf("the scrape is NATed: %s", flow)
		}
	}

	var got []monitor.Notification
	for len(got) == 0 {
		got, err = s.Webhook.Notifications()
		must(t, err)
		must(t, ctx.Err())
		time.Sleep(50 * time.Millisecond)
	}
	first := got[0]
	if first.Receiver != "pager" || first.Status != "firing" || first.GroupLabels["cluster"] != "one" ||
		len(first.Alerts) == 0 {
		t.Fatalf("notified of %+v", first)
	}
	summaries := []string{"Seen node-a:10059 of one", "Seen node-b:10059 of one"}
	for _, a := range first.Alerts {
		if !slices.Contains(summaries, a.Annotations["summary"]) || a.StartsAt.IsZero() || !a.EndsAt.IsZero() {
			t.Errorf("alert %+v; want one of %v, not ended", a, summaries)
		}
	}
}
