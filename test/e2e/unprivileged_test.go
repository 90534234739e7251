package e2e_test

import (
	"strings"
	"testing"
	"time"

	"vxlan_exporter/test/lab"
	"vxlan_exporter/test/lab/labtest"
)

// Without any capability the exporter serves what it can read, and does not pass off what it cannot read as zero.
func TestUnprivileged(t *testing.T) {
	t.Parallel()
	labtest.NeedRoot(t, "the exporter runs as another user")
	r := labtest.NewRig(t, lab.LiveFailure())
	if answered, err := r.Query(t.Context(), 1, 50*time.Millisecond); err != nil || answered != 0 {
		t.Fatalf("%d queries answered, %v; want none", answered, err)
	}
	e := labtest.StartExporter(t, r.A, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--bounding-set=-all",
		labtest.PublicExporter(t), "--conntrack.min-interval=0s", "--natrules.min-interval=0s")
	e.Scrape()
	e.Scrape()
	m := e.Scrape()
	for _, collector := range []string{"device", "host", "kernel", "socket", "underlay"} {
		is(t, m, map[string]float64{series("vxlan_scrape_collector_success", "collector="+collector): 1})
	}
	for _, collector := range []string{"conntrack", "natrules"} {
		is(t, m, map[string]float64{series("vxlan_scrape_collector_success", "collector="+collector): 0})
	}
	for _, s := range m.Names() {
		if contains(s, "vxlan_conntrack_flows", "vxlan_conntrack_nat_flows", "vxlan_nat_masquerade_mark_state") {
			t.Errorf("%s is %g, but nobody could look", s, m[s])
		}
	}
	is(t, m, map[string]float64{exposure("offloaded_checksum", "clear"): 0, exposure("offloaded_checksum", "active"): 0})
	if n := strings.Count(e.Log(), "collector=conntrack status=not_permitted"); n != 1 || !strings.Contains(e.Log(), "needs CAP_NET_ADMIN") {
		t.Errorf("three scrapes wrote %d lines that conntrack is not permitted; want one, with the capability it needs:\n%s", n, e.Log())
	}
}
