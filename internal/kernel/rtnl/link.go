// Package rtnl reads VXLAN links over rtnetlink.
package rtnl

import "net/netip"

// Link is a VXLAN device as RTM_GETLINK describes it (IFLA_VXLAN_*, include/uapi/linux/if_link.h). A nil pointer means
// that the kernel did not send the attribute, which is not the same as false.
type Link struct {
	Index int    `json:"index"`
	Name  string `json:"name"`
	Up    bool   `json:"up"` // IFF_UP
	MTU   uint32 `json:"mtu,omitempty"`

	VNI           uint32     `json:"vni"`                      // IFLA_VXLAN_ID; 0 on an external device
	Port          uint16     `json:"port"`                     // IFLA_VXLAN_PORT, host byte order
	Local         netip.Addr `json:"local"`                    // IFLA_VXLAN_LOCAL or LOCAL6; the zero Addr when unset
	Remote        netip.Addr `json:"remote"`                   // IFLA_VXLAN_GROUP or GROUP6
	UnderlayIndex int        `json:"underlay_index,omitempty"` // IFLA_VXLAN_LINK; 0 when unset
	// IFLA_LINK_NETNSID: the device was moved away from the namespace its socket is in
	LinkNetns *int32 `json:"link_netns,omitempty"`

	External           *bool `json:"external,omitempty"` // IFLA_VXLAN_COLLECT_METADATA
	UDPChecksum        *bool `json:"udp_checksum,omitempty"`
	UDP6ZeroChecksumTx *bool `json:"udp6_zero_checksum_tx,omitempty"`
	UDP6ZeroChecksumRx *bool `json:"udp6_zero_checksum_rx,omitempty"`
}

// IsExternal reports whether the device is known to take its tunnel parameters from each packet.
func (l Link) IsExternal() bool { return l.External != nil && *l.External }

// Underlay says which address families the device's outer packets have (drivers/net/vxlan/vxlan_core.c: an external
// device has a socket of each; any other is IPv6 exactly when its local or remote address is).
func (l Link) Underlay() (ipv4, ipv6 bool) {
	if l.IsExternal() {
		return true, true
	}
	six := (l.Local.Is6() && !l.Local.Is4In6()) || (l.Remote.Is6() && !l.Remote.Is4In6())
	return !six, six
}
