//go:build load

package e2e_test

import (
	"strings"
	"testing"

	"vxlan_exporter/internal/kernel/conntrack/conntracktest"
	"vxlan_exporter/test/lab/labtest"
	"vxlan_exporter/test/lab/services"
)

// twoDevices is a node with two VXLAN devices, kube-proxy's rules and an empty connection tracking table.
func twoDevices(t testing.TB) *labtest.NS {
	n := labtest.New(t, "small")
	n.RunInput(`link add eth0 type veth peer name peer
addr add 192.168.77.1/24 dev eth0
link set eth0 up
link set peer up
link add flannel.1 type vxlan id 1 dstport 8472 local 192.168.77.1 dev eth0 nolearning
link add vxlan.calico type vxlan id 4096 dstport 8472 local 192.168.77.1 dev eth0 nolearning noudpcsum
link set flannel.1 up
link set vxlan.calico up
`, "ip", "-batch", "-")
	n.RunInput(`*nat
:KUBE-POSTROUTING - [0:0]
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
COMMIT
`, "iptables-nft-restore")
	return n
}

// The exporter stays small: resident memory at rest and after 1,000 scrapes, and the number of series.
func TestFootprintCost(t *testing.T) {
	const limit = 18_500 << 10 // bytes: 18.5 MB as /proc/PID/status counts
	e := labtest.StartExporter(t, twoDevices(t).NS, labtest.Binary(t))
	if rss := resident(t, e); rss >= limit {
		t.Errorf("%d bytes resident at rest, the limit is %d", rss, limit)
	}
	var series int
	for range 1000 {
		m := e.Scrape()
		series = 0
		for name := range m {
			if strings.HasPrefix(name, "vxlan_") {
				series++
			}
		}
	}
	rss := resident(t, e)
	if rss >= limit {
		t.Errorf("%d bytes resident after 1,000 scrapes, the limit is %d", rss, limit)
	}
	if series >= 120 {
		t.Errorf("%d vxlan_ series with two devices, the limit is 120", series)
	}
	t.Logf("%d bytes resident after 1,000 scrapes, %d series", rss, series)
}

// A large connection tracking table changes nothing of that, and its NATed flows are found. As many entries as fit below the kernel's
// default limit; `make bench` shows that a scan allocates the same at a million.
func TestFootprintCostOfALargeTable(t *testing.T) {
	const limit, entries, vxlan, nat = 18_500 << 10, 200_000, 50, 3
	n := twoDevices(t)
	n.Do(func() error {
		table, err := conntracktest.Open()
		if err != nil {
			return err
		}
		defer func() { _ = table.Close() }()
		flows := conntracktest.Decoys(8472)
		for i := range vxlan {
			f := conntracktest.VXLAN(i, 8472)
			if i < nat {
				f = f.WithSNAT()
			}
			flows = append(flows, f)
		}
		for i := range entries {
			flows = append(flows, conntracktest.TCP(i))
		}
		return table.Add(flows...)
	})
	e := labtest.StartExporter(t, n.NS, labtest.Binary(t), "--conntrack.min-interval=0s")
	for range 20 {
		is(t, e.Scrape(), map[string]float64{
			series("vxlan_conntrack_nat_flows", "family=ipv4", "port=8472", "nat=snat"): nat,
			series("vxlan_scrape_collector_success", "collector=conntrack"):             1,
		})
	}
	rss := resident(t, e)
	if rss >= limit {
		t.Errorf("%d bytes resident after 20 scans of %d entries, the limit is %d", rss, entries, limit)
	}
	t.Logf("%d bytes resident after 20 scans of %d entries", rss, entries)
}

// TestFootprintCostOfManyServices: nor do the rules of 5,000 services of three endpoints, read anew for each of 20 scrapes, in every backend.
func TestFootprintCostOfManyServices(t *testing.T) {
	const limit, number = 20_000 << 10, 5000
	labtest.NeedRoot(t, "nft and iptables-nft-restore send more at once than net.core.wmem_max")
	for command, rules := range map[string]string{
		"iptables-nft-restore": services.Iptables(number), "iptables-legacy-restore": services.Iptables(number), "nft -f -": services.Nftables(number),
	} {
		t.Run(strings.Fields(command)[0], func(t *testing.T) {
			n := twoDevices(t)
			n.Run("iptables-nft", "-t", "nat", "-F")
			n.RunInput(rules, strings.Fields(command)...)
			e := labtest.StartExporter(t, n.NS, labtest.Binary(t), "--natrules.min-interval=0s")
			for range 20 {
				is(t, e.Scrape(), map[string]float64{series("vxlan_scrape_collector_success", "collector=natrules"): 1})
			}
			peak, err := e.Peak()
			if err != nil || peak >= limit {
				t.Errorf("%d bytes resident at the peak, the limit is %d (%v)", peak, limit, err)
			}
			t.Logf("%d bytes resident at the peak", peak)
		})
	}
}

// BenchmarkScrape reports what a scrape costs the exporter, in milliseconds of CPU, compressed as Prometheus asks for it.
func BenchmarkScrape(b *testing.B) {
	e := labtest.StartExporter(b, twoDevices(b).NS, labtest.Binary(b))
	e.Scrape()
	before := e.Scrape()["process_cpu_seconds_total"]
	for b.Loop() {
		e.Scrape()
	}
	after := e.Scrape()["process_cpu_seconds_total"]
	b.ReportMetric((after-before)*1000/float64(b.N+1), "cpu-ms/scrape")
}

func resident(t testing.TB, e *labtest.Exporter) int {
	t.Helper()
	n, err := e.Resident()
	if err != nil {
		t.Fatal(err)
	}
	return n
}
