package natrules

import "net/netip"

// Input is what is known of the packets that the rules are judged for. Everything left out stays unknown and makes no
// rule match or not match: only a rule that asks for it becomes one that cannot be told.
type Input struct {
	Ports         []Port
	MasqueradeBit *int // kube-proxy's iptables.masqueradeBit; nil: find it from the rules, 14 when they have none
	// Release is the kernel's (uname -r): before 4.18 NAT chains do not share a hook. Empty: a Reader reads it.
	Release string

	test *testInput
}

// Port is a VXLAN port and what passes the devices that use it.
type Port struct {
	Port       uint16
	Local      netip.Addr // what outer packets are sent from, as the devices say; not valid: the kernel chooses
	IPv4, IPv6 bool       // families of the underlay

	// Senders are whose packets enter the devices with their checksum unfinished, given the mark that policy routing
	// sees. nil: not known.
	Senders func(ipv6 bool, mark uint32) []Sender
	// Ways are how outer packets with a mark leave: one for each distinct answer of the routing. nil: not known.
	Ways func(ipv6 bool, mark uint32) []Way

	SourcePorts []PortRange // of outer packets, for each device; nil: not known

	Own     []netip.Addr // all addresses of this namespace; nil: not known
	Devices []Interface  // the VXLAN devices; nil: not known
}

// Sender is a class of packets that go into the tunnel with an unfinished checksum.
type Sender struct {
	In           []Interface    // the interfaces they come in by; nil: this node sends them itself
	Sources      []netip.Prefix // what they come from; nil: not known
	Out          Interface      // by which they leave for the tunnel: device, bridge or gateway; no name: not known
	Destinations []netip.Prefix // what is routed that way; nil: not known
}

// Way is how outer packets to some peers leave.
type Way struct {
	Out        Interface    // no name: not known
	Source     netip.Addr   // what they are sent from; not valid: not known
	Peers      []netip.Addr // nil: not known
	Port       uint16       // that they listen on; 0: the one of the device
	Masquerade netip.Addr   // what MASQUERADE would make of the source; not valid: not known
}

// Interface is a network device.
type Interface struct {
	Name  string
	Index int          // 0 when not known
	Addrs []netip.Addr // its own addresses; empty when not known
}

// testInput is what tests know of the one packet that they send.
type testInput struct {
	inner      func(p *packet)
	socketMark bool // the socket sets the mark, no rule does
}
