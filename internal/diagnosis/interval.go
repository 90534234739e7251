package diagnosis

import (
	"time"

	"vxlan_exporter/internal/node"
)

// Interval is the time between an observation and the earlier one that it is compared with; ok is false when the
// counters of the two cannot be compared, and why says so.
func Interval(n *node.Node) (d time.Duration, why string, ok bool) {
	b := n.Earlier
	switch {
	case b == nil:
		return 0, "there is only one observation", false
	case b.Hostname != n.Hostname:
		return 0, "the two observations are of different hosts", false
	case b.Kernel.BootID != "" && n.Kernel.BootID != "" && b.Kernel.BootID != n.Kernel.BootID:
		return 0, "the node was rebooted between the two observations", false
	}
	if d = n.Time.Sub(b.Time); d <= 0 {
		return 0, "the second observation is not later than the first", false
	}
	return d, "", true
}

// families of the underlay, in the order of reports.
var families = [...]string{node.IPv4, node.IPv6}

// portKey names the flows to one VXLAN port over one underlay family.
type portKey struct {
	family string
	port   uint16
}
