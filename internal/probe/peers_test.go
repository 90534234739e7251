package probe

import (
	"net/netip"
	"slices"
	"testing"

	"vxlan_exporter/internal/node"
)

// Every peer has its turn before one is asked again, and devices and families do not take turns from each other.
func TestDraw(t *testing.T) {
	var f Found
	for _, peer := range []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1"} {
		for _, device := range []string{"a", "b"} {
			f.Targets = append(f.Targets, Target{PathPeer: node.PathPeer{Device: device, Peer: netip.MustParseAddr(peer)}})
		}
	}
	for round, want := range [][]string{
		{"10.0.0.1", "10.0.0.2", "fd00::1"},
		{"10.0.0.1", "10.0.0.3", "fd00::1"},
		{"10.0.0.2", "10.0.0.3", "fd00::1"},
	} {
		drawn := map[string][]string{}
		for _, target := range f.Draw(2) {
			drawn[target.Device] = append(drawn[target.Device], target.Peer.String())
		}
		for _, device := range []string{"a", "b"} {
			slices.Sort(drawn[device])
			if !slices.Equal(drawn[device], want) {
				t.Errorf("round %d, %s: %v, want %v", round, device, drawn[device], want)
			}
		}
	}
}
