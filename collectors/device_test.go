package collectors

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/kernel/nl"
	"vxlan_exporter/internal/kernel/rtnl"
	"vxlan_exporter/internal/node"
	"vxlan_exporter/test/fuzz/bound"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// deviceExposition gathers what a collector publishes of a node, and lints it.
func deviceExposition(t *testing.T, c Collector, n *node.Node) string {
	t.Helper()
	r := prometheus.NewPedanticRegistry()
	if err := r.Register(deviceCollector{c, n}); err != nil {
		t.Fatal(err)
	}
	problems, err := testutil.GatherAndLint(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	text, err := exposition(r)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

type deviceCollector struct {
	Collector
	n *node.Node
}

func (c deviceCollector) Collect(ch chan<- prometheus.Metric) { c.Publish(c.n, ch) }

func wantDeviceSeries(t *testing.T, got, want string) {
	t.Helper()
	if got, want := series(got), strings.TrimSpace(want); got != want {
		t.Errorf("published\n%s\nwant\n%s", got, want)
	}
}

func feature(name string, active, fixed bool) ethtool.Feature {
	return ethtool.Feature{Name: name, Available: !fixed, Requested: active, Active: active, Fixed: fixed}
}

func exampleDevices() []node.Device {
	features := ethtool.Features{
		feature("tx-scatter-gather", true, false), feature("tx-checksum-ip-generic", true, false),
		feature("rx-checksum", true, false),
		feature("tx-generic-segmentation", true, false), feature("rx-gro", false, false),
		feature("tx-udp_tnl-segmentation", false, true),
	}
	return []node.Device{
		{Link: rtnl.Link{
			Index: 4, Name: "flannel.1", Up: true, VNI: 1, Port: 8472, Local: netip.MustParseAddr("192.0.2.1"), UnderlayIndex: 2,
			External: new(false), UDPChecksum: new(true), UDP6ZeroChecksumTx: new(false), UDP6ZeroChecksumRx: new(false),
		}, Underlay: "eth0", Features: features},
		{Link: rtnl.Link{
			Index: 5, Name: "six", VNI: 2, Port: 4789, Local: netip.MustParseAddr("2001:db8::1"),
			UDPChecksum: new(true), UDP6ZeroChecksumTx: new(true), UDP6ZeroChecksumRx: new(false),
		}, FeaturesError: "not read"},
	}
}

func TestDevicePublishes(t *testing.T) {
	n := &node.Node{Devices: exampleDevices()}
	want := `
vxlan_device_feature_active{device="flannel.1",feature="rx-checksum"} 1
vxlan_device_feature_active{device="flannel.1",feature="tx-checksum-ip-generic"} 1
vxlan_device_feature_active{device="flannel.1",feature="tx-generic-segmentation"} 1
vxlan_device_feature_fixed{device="flannel.1",feature="rx-checksum"} 0
vxlan_device_feature_fixed{device="flannel.1",feature="tx-checksum-ip-generic"} 0
vxlan_device_feature_fixed{device="flannel.1",feature="tx-generic-segmentation"} 0
vxlan_device_feature_requested{device="flannel.1",feature="rx-checksum"} 1
vxlan_device_feature_requested{device="flannel.1",feature="tx-checksum-ip-generic"} 1
vxlan_device_feature_requested{device="flannel.1",feature="tx-generic-segmentation"} 1
vxlan_device_info{device="flannel.1",external="false",family="ipv4",local="192.0.2.1",port="8472",underlay="eth0",vni="1"} 1
vxlan_device_info{device="six",external="",family="ipv6",local="2001:db8::1",port="4789",underlay="",vni="2"} 1
vxlan_device_udp6_zero_checksum_enabled{device="six",direction="rx"} 0
vxlan_device_udp6_zero_checksum_enabled{device="six",direction="tx"} 1
vxlan_device_udp_checksum_enabled{device="flannel.1"} 1
vxlan_device_udp_checksum_enabled{device="six"} 1
vxlan_device_up{device="flannel.1"} 1
vxlan_device_up{device="six"} 0
`
	wantDeviceSeries(t, deviceExposition(t, NewDevice(DeviceConfig{}), n), want)
	wide := deviceExposition(t, NewDevice(DeviceConfig{FeatureInclude: regexp.MustCompile("udp_tnl|gro")}), n)
	for _, line := range []string{
		`vxlan_device_feature_active{device="flannel.1",feature="tx-udp_tnl-segmentation"} 0`,
		`vxlan_device_feature_fixed{device="flannel.1",feature="tx-udp_tnl-segmentation"} 1`,
	} {
		if !strings.Contains(wide, line+"\n") {
			t.Errorf("missing with the flag: %s", line)
		}
	}
	if strings.Contains(wide, "tx-scatter-gather") {
		t.Error("published without being asked for")
	}
}

func TestDeviceSaysNothingThatTheKernelDoesNot(t *testing.T) {
	n := &node.Node{Devices: []node.Device{
		{Link: rtnl.Link{Index: 3, Name: "old"}},
		{Link: rtnl.Link{Index: 4, Name: "x", External: new(true)}},
	}}
	wantDeviceSeries(t, deviceExposition(t, NewDevice(DeviceConfig{}), n), `
vxlan_device_info{device="old",external="",family="ipv4",local="",port="",underlay="",vni="0"} 1
vxlan_device_info{device="x",external="true",family="",local="",port="",underlay="",vni=""} 1
vxlan_device_up{device="old"} 0
vxlan_device_up{device="x"} 0
`)
	if got := deviceExposition(t, NewDevice(DeviceConfig{}), &node.Node{}); got != "" {
		t.Errorf("without devices: %s", got)
	}
}

// TestDeviceNamesStayApart publishes names that are not UTF-8, which would collide if each odd byte became U+FFFD.
func TestDeviceNamesStayApart(t *testing.T) {
	names := []string{"a\xff", "a\xfe", "a\uFFFD", "a\uFFFDff", "a\xff\xfe", "\xef\xbf", "\xef", "<b>\"x\\\x01"}
	var n node.Node
	seen := make(map[string]string)
	for i, name := range names {
		n.Devices = append(n.Devices, node.Device{Link: rtnl.Link{Index: i + 1, Name: name}, Underlay: name})
		n.Underlays = append(n.Underlays, node.Underlay{Index: i + 1, Name: name})
		label := DeviceLabel(name)
		if other, ok := seen[label]; ok {
			t.Errorf("%q and %q are both labeled %q", name, other, label)
		}
		seen[label] = name
	}
	deviceExposition(t, NewDevice(DeviceConfig{}), &n) // fails on a duplicate and on what is not UTF-8
	deviceExposition(t, NewUnderlay(DeviceConfig{}), &n)
	if got := DeviceLabel("flannel.1"); got != "flannel.1" {
		t.Errorf("label %q", got)
	}
}

func FuzzDeviceLabel(f *testing.F) {
	f.Add("a\xff", "a\uFFFDff")
	f.Add("a\xef\xbf", "a\uFFFD00")
	f.Add("flannel.1", "cali\u00e9")
	f.Fuzz(func(t *testing.T, a, b string) {
		var one, other string
		bound.Read(t, len(a)+len(b), 32, 0, func() { one, other = DeviceLabel(a), DeviceLabel(b) })
		if (one == other) != (a == b) {
			t.Errorf("%q and %q become %q and %q", a, b, one, other)
		}
		if strings.ToValidUTF8(one, "") != one {
			t.Errorf("%q", one)
		}
	})
}

func TestPorts(t *testing.T) {
	device := func(port uint16, local string, external bool) node.Device {
		d := node.Device{Link: rtnl.Link{Port: port, External: &external}}
		if local != "" {
			d.Local = netip.MustParseAddr(local)
		}
		return d
	}
	for name, c := range map[string]struct {
		devices    []node.Device
		configured []uint16
		want       []node.Port
	}{
		"nothing":              {nil, nil, []node.Port{}},
		"a flag and no device": {nil, []uint16{8472, 8472}, []node.Port{{Port: 8472, IPv4: true, IPv6: true}}},
		"families are joined": {
			[]node.Device{device(8472, "2001:db8::1", false), device(8472, "192.0.2.1", false), device(4789, "", false)},
			[]uint16{8472, 9000, 1},
			[]node.Port{
				{Port: 1, IPv4: true, IPv6: true},
				{Port: 4789, IPv4: true, Device: true},
				{Port: 8472, IPv4: true, IPv6: true, Device: true},
				{Port: 9000, IPv4: true, IPv6: true},
			},
		},
		"IPv6 only": {
			[]node.Device{device(4789, "2001:db8::1", false)},
			[]uint16{8472},
			[]node.Port{{Port: 4789, IPv6: true, Device: true}, {Port: 8472, IPv6: true}},
		},
		"external": {
			[]node.Device{device(8472, "", true)},
			nil,
			[]node.Port{{Port: 8472, IPv4: true, IPv6: true, Device: true}},
		},
		"port 0 is none": {[]node.Device{device(0, "", false)}, []uint16{0}, []node.Port{}},
	} {
		if got := vxlanPorts(c.devices, c.configured); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

func TestManyFailuresAreQuotedInShort(t *testing.T) {
	var f failures
	if f.join() != nil {
		t.Error("an error of nothing")
	}
	cause := errors.New("cause")
	for i := range 200 {
		f.add(fmt.Errorf("device %d: %w", i, cause))
	}
	if err := f.join(); !errors.Is(err, cause) || !strings.HasSuffix(err.Error(), "and 197 more") ||
		strings.Count(err.Error(), "\n") > 4 {
		t.Error(err)
	}
}

func TestDeviceCannotOpenSocket(t *testing.T) {
	d := NewDevice(DeviceConfig{OpenRoute: func() (nl.Socket, error) { return nil, errors.New("no socket") }})
	if fill, err := d.Observe(context.Background(), &node.Node{}); fill != nil || err == nil {
		t.Errorf("fill %v, error %v", fill != nil, err)
	}
}
