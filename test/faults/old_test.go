package faults_test

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"vxlan_exporter/collectors"
	"vxlan_exporter/internal/kernel/kerneltest"
	"vxlan_exporter/internal/node"
)

// oldFile holds the exposition on an imitated Linux 3.10.
const oldFile = "testdata/metrics-3.10.txt"

var update = flag.Bool("update", false, "write the golden exposition anew")

// TestImitatedLinux310 scrapes a kernel as of 2013, as far as it can be imitated: a procfs with the fields that 3.10
// has, netlink that ignores every filter, devices without attributes about checksums, no generic netlink family
// "ethtool", no nf_tables, no strict netlink sockets, no SKF_AD_RANDOM, no PACKET_IGNORE_OUTGOING. Nothing fails, and
// what such a kernel cannot say is not there.
func TestImitatedLinux310(t *testing.T) {
	m := oldMachine(t)
	m.exposition()
	got := m.exposition()
	if logged := m.log.take(); len(logged) > 0 {
		t.Errorf("logged: %q", logged)
	}
	var text strings.Builder
	for _, series := range got.Names() {
		fmt.Fprintf(&text, "%s %v\n", series, got[series])
	}
	if *update {
		if err := os.WriteFile(oldFile, []byte(text.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(oldFile)
	if err != nil {
		t.Fatal(err)
	}
	if text.String() != string(want) {
		t.Errorf("the exposition is not %s (make golden writes it anew); first difference:\n%s", oldFile,
			firstDifference(text.String(), string(want)))
	}
	for _, c := range collectors.Kinds() {
		if c.Name == "path" { // off: it would send packets
			continue
		}
		if got[`vxlan_scrape_collector_success{collector="`+c.Name+`"}`] != 1 {
			t.Errorf("%s fails", c.Name)
		}
	}
	for _, absent := range []string{
		"vxlan_device_udp_checksum_enabled", "vxlan_device_udp6_zero_checksum_enabled", // IFLA_VXLAN_UDP_CSUM, 3.16
		"vxlan_host_tcp_timeout_rehash_total", // TcpTimeoutRehash, 5.8
		"vxlan_underlay_private_flag", "vxlan_nat_", "_nat_flows{family=\"ipv6\"",
	} {
		if strings.Contains(text.String(), absent) {
			t.Errorf("%s is there", absent)
		}
	}
	for series, value := range map[string]float64{
		// no filter is needed to find them
		`vxlan_conntrack_nat_flows{family="ipv4",nat="snat",port="8472"}`:                              2,
		`vxlan_conntrack_scan_filtered`:                                                                0,
		`vxlan_device_feature_active{device="flannel.1",feature="tx-checksum-ip-generic"}`:             1, // by ioctl
		`vxlan_underlay_up{device="eth0"}`:                                                             1, // carrier
		`vxlan_kernel_nat_checksum_bug{evidence="release",variant="zero_checksum",verdict="affected"}`: 1,
		`vxlan_wire_interfaces`:                                                                        1,
	} {
		if got[series] != value {
			t.Errorf("%s %v, want %v", series, got[series], value)
		}
	}
}

// TestImitatedLinux310WithoutIoctl has neither the ioctl, which a sandbox refuses, nor the family: features cannot be
// told, and that is said.
func TestImitatedLinux310WithoutIoctl(t *testing.T) {
	m := oldMachine(t)
	m.kernel.Break(kerneltest.Ioctl, kerneltest.Fault{Refuse: unix.EOPNOTSUPP}) // as a sandbox may
	for range 3 {
		got := m.exposition()
		for _, name := range []string{"device", "underlay"} {
			if got[`vxlan_scrape_collector_success{collector="`+name+`"}`] != 0 {
				t.Errorf("%s succeeds", name)
			}
		}
		for series := range got {
			if strings.Contains(series, "_feature_") {
				t.Errorf("%s is there", series)
			}
		}
	}
	expectLog(t, m.log.take(), []string{
		`level=WARN .*collector=device status=` + string(node.Unsupported) + ``, `level=WARN .*collector=underlay status=` +
			string(node.Unsupported),
	})
}

// TestImitatedLinux310RefusesConntrackFilter: EINVAL is what a kernel says to CTA_FILTER that has no such attribute and
// looks at what it is sent, and to everything where ctnetlink is absent. The two are told apart by asking without.
func TestImitatedLinux310RefusesConntrackFilter(t *testing.T) {
	m := oldMachine(t)
	m.exposition()
	m.kernel.Break(kerneltest.Conntrack, kerneltest.Fault{Refuse: unix.EINVAL})
	got := m.exposition()
	if got[`vxlan_scrape_collector_success{collector="conntrack"}`] != 0 || got[`vxlan_conntrack_scan_stale`] != 1 {
		t.Error("conntrack succeeds without ctnetlink")
	}
	m.kernel.Mend(kerneltest.Conntrack)
	if got = m.exposition(); got[`vxlan_scrape_collector_success{collector="conntrack"}`] != 1 {
		t.Error("conntrack does not recover")
	}
}

func oldMachine(t *testing.T) *machine {
	t.Helper()
	k := kerneltest.New()
	k.Old = true
	return newMachine(t, k, fixture310)
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return "got  " + g[i] + "\nwant " + w[i]
		}
	}
	return "one is longer than the other"
}
