package monitor_test

import (
	"context"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/monitor"
)

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
		// By a stale neighbour entry it would be reached after 15 s: 5 s (delay_first_probe_time) and three probes, then the
		// next SYN.
		c, err := network.NS.DialContext(ctx, "tcp", address.String())
		if err != nil {
			t.Fatalf("life %d: %v", i, err)
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
		"no program": {
			Programs: "/nowhere", Prometheus: filepath.Join("testdata", "prometheus.yml"),
			Alertmanager: filepath.Join("testdata", "alertmanager.yml"),
		},
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
