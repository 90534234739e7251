package e2e_test

import (
	"fmt"
	"testing"
	"time"

	"vxlan_exporter/test/lab"
)

// Behind a firewall that drops what connection tracking finds invalid, the packet capture is the only one on the receiver that sees the
// bad packets, and names their sender.
func TestWire(t *testing.T) {
	t.Parallel()
	for variant, o := range map[string]lab.Options{
		"offloaded_checksum": {UDPChecksum: true},
		"zero_checksum":      {ImitateA: true},
	} {
		for _, family := range []lab.Family{lab.IPv4, lab.IPv6} {
			t.Run(fmt.Sprintf("%s/%s", variant, family), func(t *testing.T) {
				t.Parallel()
				live := lab.LiveFailure()
				live.Receiver, live.Family, live.UDPChecksum, live.ImitateA = lab.ReceiverFirewalld, family, o.UDPChecksum, o.ImitateA
				n := newNodes(t, live, "--collector.wire")
				inCsumErrors := series("vxlan_host_udp_in_csum_errors_total", "family="+string(family))
				byPeer := series("vxlan_wire_bad_packets_total", "peer="+n.UnderlayA.String(), "direction=in", "variant="+variant)
				before := n.receiver.Scrape()
				bad := n.fail()
				after := n.receiver.Scrape()
				for range 50 { // the probe reads what has piled up every now and then
					if after[byPeer] >= bad {
						break
					}
					time.Sleep(50 * time.Millisecond)
					after = n.receiver.Scrape()
				}
				rose(t, before, after, map[string]float64{inCsumErrors: 0})
				is(t, after, map[string]float64{
					byPeer: bad,
					series("vxlan_wire_packets_total", "family="+string(family), "direction=in", "verdict=bad"): bad,
				})
			})
		}
	}
}
