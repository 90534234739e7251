package monitor_test

import (
	"context"
	"net/netip"
	"path/filepath"
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
		targets = append(targets, monitor.Target{Address: address, Labels: map[string]string{"cluster": "one", "instance": instance}})
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
		if strings.Count(flow, "src=198.18.0.1 ") != 1 || strings.Count(flow, "dst=198.18.0.1 ") != 1 || strings.Count(flow, "port=10059 ") != 2 {
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
	if first.Receiver != "pager" || first.Status != "firing" || first.GroupLabels["cluster"] != "one" || len(first.Alerts) == 0 {
		t.Fatalf("notified of %+v", first)
	}
	summaries := []string{"Seen node-a:10059 of one", "Seen node-b:10059 of one"}
	for _, a := range first.Alerts {
		if !slices.Contains(summaries, a.Annotations["summary"]) || a.StartsAt.IsZero() || !a.EndsAt.IsZero() {
			t.Errorf("alert %+v; want one of %v, not ended", a, summaries)
		}
	}
}

// A node that takes another's place is reached under its address at once.
func TestAttachAs(t *testing.T) {
	network := labtest.NewNetwork(t)
	var address netip.AddrPort
	for i := range 3 {
		n, err := lab.NewNS("reborn")
		must(t, err)
		if i == 0 {
			address = labtest.Attach(t, network, n)
		} else {
			must(t, network.AttachAs(n, address.Addr()))
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		l := labtest.Listen(t, n, address)
		start := time.Now()
		c, err := network.NS.DialContext(ctx, "tcp", address.String())
		if err != nil {
			t.Fatalf("life %d: %v", i, err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("life %d: reached after %v", i, took)
		}
		c.Close()
		l.Close()
		must(t, n.Close())
	}
}

func TestStartOfWhatIsNotThere(t *testing.T) {
	network := labtest.NewNetwork(t)
	for what, o := range map[string]monitor.Options{
		"no such file": {Programs: "/nowhere", Prometheus: "/nowhere/prometheus.yml"},
		"no such job":  {Programs: "/nowhere", Prometheus: filepath.Join("testdata", "alertmanager.yml")},
		"no program":   {Programs: "/nowhere", Prometheus: filepath.Join("testdata", "prometheus.yml"), Alertmanager: filepath.Join("testdata", "alertmanager.yml")},
	} {
		if s, err := monitor.Start(t.Context(), network, o); err == nil {
			t.Errorf("%s: started", what)
			_ = s.Stop()
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
