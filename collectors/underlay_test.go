package collectors

import (
	"regexp"
	"strings"
	"testing"

	"vxlan_exporter/internal/kernel/ethtool"
	"vxlan_exporter/internal/node"
)

func TestUnderlayPublishes(t *testing.T) {
	n := &node.Node{Underlays: []node.Underlay{
		{
			Name: "eth0", Driver: ethtool.Driver{Name: "ice", FirmwareVersion: "4.40"}, LinkUp: new(true),
			Features: ethtool.Features{
				feature("tx-scatter-gather", true, false), feature("tx-checksum-ipv4", true, false),
				feature("tx-checksum-ip-generic", false, true),
				feature("tx-checksum-ipv6", false, true), feature("rx-checksum", true, false),
				feature("tx-udp_tnl-segmentation", true, false),
				feature("tx-udp_tnl-csum-segmentation", false, false), feature("rx-udp_tunnel-port-offload", true, false),
			},
			PrivateFlags: map[string]bool{"rx_no_csum_complete": true, "checksum\xff": false},
		},
		// A NIC without any checksum offload, on a kernel that has no name for the rest.
		{Name: "eth1", Features: ethtool.Features{
			feature("tx-checksum-ip-generic", false, true),
			feature("tx-checksum-ipv4", false, true),
		}},
	}}
	want := `
vxlan_underlay_feature_active{device="eth0",feature="rx-checksum"} 1
vxlan_underlay_feature_active{device="eth0",feature="rx-udp_tunnel-port-offload"} 1
vxlan_underlay_feature_active{device="eth0",feature="tx-checksum-ipv4"} 1
vxlan_underlay_feature_active{device="eth0",feature="tx-udp_tnl-csum-segmentation"} 0
vxlan_underlay_feature_active{device="eth0",feature="tx-udp_tnl-segmentation"} 1
vxlan_underlay_feature_active{device="eth1",feature="tx-checksum-ip-generic"} 0
vxlan_underlay_info{device="eth0",driver="ice",firmware_version="4.40"} 1
vxlan_underlay_info{device="eth1",driver="",firmware_version=""} 1
vxlan_underlay_private_flag{device="eth0",flag="checksum�ff"} 0
vxlan_underlay_private_flag{device="eth0",flag="rx_no_csum_complete"} 1
vxlan_underlay_up{device="eth0"} 1
`
	wantDeviceSeries(t, deviceExposition(t, NewUnderlay(DeviceConfig{}), n), want)
	wide := deviceExposition(t, NewUnderlay(DeviceConfig{FeatureInclude: regexp.MustCompile("^tx-scatter-gather$")}), n)
	if !strings.Contains(wide, `vxlan_underlay_feature_active{device="eth0",feature="tx-scatter-gather"} 1`) {
		t.Error("the flag has no effect")
	}
}
