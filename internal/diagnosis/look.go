package diagnosis

import (
	"time"

	"vxlan_exporter/internal/node"
)

// Look is what Judge judges: one observation of a node, or two of the same node, which give the counters rates. It is
// also the format of a saved observation.
type Look struct {
	Before *node.Node `json:"before"` // nil: one look only, so counters have no rates
	Now    *node.Node `json:"now"`
}

// Interval is the time between the two observations; ok is false when the counters of the two cannot be compared, and
// why says so.
func (l Look) Interval() (d time.Duration, why string, ok bool) {
	b, n := l.Before, l.Now
	switch {
	case n == nil || b == nil:
		return 0, "there is only one look", false
	case b.Hostname != n.Hostname:
		return 0, "the two looks are of different hosts", false
	case b.Kernel.BootID != "" && n.Kernel.BootID != "" && b.Kernel.BootID != n.Kernel.BootID:
		return 0, "the node was rebooted between the two looks", false
	}
	if d = n.Time.Sub(b.Time); d <= 0 {
		return 0, "the second look is not later than the first", false
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
