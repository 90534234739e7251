// Package capture captures VXLAN packets on the NICs that carry them and judges their outer UDP checksum. The kernel
// sorts out the packets that are of interest (filter.go), an AF_PACKET socket brings them (socket.go, capture.go), and
// a pure function judges each of them (judge.go).
package capture

const (
	etherHeader = 14
	vlanTag     = 4
	maxVLANTags = 2 // in the frame; one more may stand beside it, in the socket buffer
	ipv4Header  = 20
	ipv6Header  = 40
	udpHeader   = 8
	vxlanHeader = 8 // RFC 7348, section 5
)

// Link is the framing of an interface's packets.
type Link uint8

// The framings. Any other link layer is not understood.
const (
	Ethernet Link = iota
	RawIP         // no link-layer header: WireGuard, tun and other tunnels
)
