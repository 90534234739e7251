package natrules

import "net/netip"

// Input is what is known of the packets that the rules are judged for. Everything left out stays unknown and makes no rule match or
// not match: only a rule that asks for it becomes one that cannot be told.
type Input struct {
	Ports         []Port
	MasqueradeBit *int // kube-proxy's iptables.masqueradeBit; nil: find it from the rules, 14 when they have none
	// Release is the kernel's (uname -r): before 4.18 NAT chains do not share a hook. Empty: a Reader reads it.
	Release string
}

// Port is a VXLAN port and the surroundings of the devices that use it.
type Port struct {
	Port       uint16
	IPv4, IPv6 bool           // families of the underlay
	Local      []netip.Addr   // addresses that outer packets are sent from (IFLA_VXLAN_LOCAL)
	Remotes    []netip.Addr   // addresses that outer packets are sent to (the devices' forwarding database)
	Underlays  []Interface    // what outer packets leave by, with its addresses
	Devices    []Interface    // the VXLAN devices
	Overlay    []netip.Prefix // what is routed into the devices
	Inner      []netip.Addr   // own addresses that inner packets are sent from
}

// Interface is a network device.
type Interface struct {
	Name  string
	Index int          // 0 when not known
	Addrs []netip.Addr // its own addresses; empty when not known
}
