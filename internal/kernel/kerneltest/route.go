package kerneltest

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// Indices of the devices, and the address of the NIC.
const (
	nicIndex       = 2
	flannelIndex   = 4
	byAddressIndex = 5
)

// Address is the NIC's, and both tunnels'.
func Address() netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 77, 1}) }

// Remote is where both tunnels send.
func Remote() netip.Addr { return netip.AddrFrom4([4]byte{192, 168, 77, 2}) }

// OpenSurroundings is an nl.Opener, for what natrules reads by it.
func (k *Kernel) OpenSurroundings() (nl.Socket, error) {
	return k.messages(Surroundings, k.surroundings)
}

// listOf is the interface that a request over a socket of Surroundings asks.
func listOf(m netlink.Message) Source {
	if m.Header.Type == unix.RTM_GETNEXTHOP {
		return Nexthops
	}
	return Surroundings
}

// surroundings answers the dumps of interfaces, of addresses, of forwarding databases, of routes and of nexthop objects
// (struct ndmsg, struct rtmsg, struct nhmsg), and what is asked of single packets. It has no policy rules.
func (k *Kernel) surroundings(m netlink.Message) ([]netlink.Message, error) {
	var out []netlink.Message
	switch {
	case m.Header.Type == unix.RTM_GETLINK:
		return append(k.links(), k.link(1, "lo", nil), k.link(nicIndex, NIC, nil)), nil
	case m.Header.Type == unix.RTM_GETRULE:
		return nil, nil
	case m.Header.Type == unix.RTM_GETROUTE && m.Header.Flags&netlink.Dump == 0:
		return wayOf(m), nil
	}
	add := func(kind netlink.HeaderType, data []byte) {
		out = append(out, netlink.Message{Header: netlink.Header{Type: kind}, Data: data})
	}
	for _, index := range []uint32{flannelIndex, byAddressIndex} {
		number := binary.NativeEndian.AppendUint32(nil, index)
		switch m.Header.Type {
		case unix.RTM_GETADDR:
			return k.route(m)
		case unix.RTM_GETNEIGH:
			b := append(append([]byte{unix.AF_BRIDGE, 0, 0, 0}, number...), 0, 0, 0, 0)
			add(unix.RTM_NEWNEIGH, nl.Append(b, unix.NDA_DST, Remote().AsSlice()))
		case unix.RTM_GETROUTE:
			b := []byte{unix.AF_INET, 24, 0, 0, unix.RT_TABLE_MAIN, 0, 0, unix.RTN_UNICAST, 0, 0, 0, 0}
			kind := uint16(unix.RTA_OIF)
			if k.ByOverlay {
				kind = 30 // RTA_NH_ID; an object has its interface's number
			}
			add(unix.RTM_NEWROUTE, nl.Append(nl.Append(b, unix.RTA_DST, []byte{10, 244, byte(index), 0}), kind, number))
		case unix.RTM_GETNEXTHOP:
			b := nl.Append([]byte{unix.AF_INET, 0, 0, 0, 0, 0, 0, 0}, unix.NHA_ID, number)
			add(unix.RTM_NEWNEXTHOP, nl.Append(b, unix.NHA_OIF, number))
		default:
			return nil, unix.EOPNOTSUPP
		}
	}
	return out, nil
}

// wayOf is the route of one packet: 10.244.N.0/24 is behind interface N, everything else behind the NIC.
func wayOf(m netlink.Message) []netlink.Message {
	index := uint32(nicIndex)
	if dst := m.Data[unix.SizeofRtMsg+4:]; dst[0] == 10 {
		index = uint32(dst[2])
	}
	b := []byte{unix.AF_INET, 32, 0, 0, unix.RT_TABLE_MAIN, 0, 0, unix.RTN_UNICAST, 0, 0, 0, 0}
	b = nl.Append(b, unix.RTA_OIF, binary.NativeEndian.AppendUint32(nil, index))
	b = nl.Append(b, unix.RTA_PREFSRC, Address().AsSlice())
	return []netlink.Message{{Header: netlink.Header{Type: unix.RTM_NEWROUTE}, Data: b}}
}

// OpenRoute is an nl.Opener.
func (k *Kernel) OpenRoute() (nl.Socket, error) { return k.messages(Route, k.route) }

func (k *Kernel) route(m netlink.Message) ([]netlink.Message, error) {
	dump := m.Header.Flags&netlink.Dump == netlink.Dump
	var out []netlink.Message
	switch {
	case m.Header.Type == unix.RTM_GETNEIGH:
		b := append([]byte{unix.AF_BRIDGE, 0, 0, 0}, m.Data[4:8]...)
		b = nl.Append(append(b, 0, 0, 0, 0), unix.NDA_DST, Remote().AsSlice())
		out = append(out, netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWNEIGH}, Data: b})
	case m.Header.Type == unix.RTM_GETROUTE:
		return wayOf(m), nil
	case m.Header.Type == unix.RTM_GETADDR:
		b := append([]byte{unix.AF_INET, 24, 0, 0}, binary.NativeEndian.AppendUint32(nil, nicIndex)...)
		b = nl.Append(nl.Append(b, unix.IFA_ADDRESS, Address().AsSlice()), unix.IFA_LOCAL, Address().AsSlice())
		out = append(out, netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWADDR}, Data: b})
	case dump:
		if k.Old { // sends what is no VXLAN device too
			out = append(out, k.link(1, "lo", nil), k.link(nicIndex, NIC, nil))
		}
		out = append(out, k.links()...)
	default:
		index := binary.NativeEndian.Uint32(m.Data[4:])
		all := append(k.links(), k.link(1, "lo", nil), k.link(nicIndex, NIC, nil))
		for _, l := range all {
			name, _, _ := bytes.Cut(l.Data[unix.SizeofIfInfomsg+4:], []byte{0})
			asked := index != 0 && binary.NativeEndian.Uint32(l.Data[4:]) == index ||
				bytes.Contains(m.Data[unix.SizeofIfInfomsg:], append(bytes.Clone(name), 0))
			if asked && !k.isGone(string(name)) {
				return []netlink.Message{l}, nil
			}
		}
		return nil, unix.ENODEV
	}
	return out, nil
}

func (k *Kernel) links() []netlink.Message {
	u32 := func(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }
	var out []netlink.Message
	for _, d := range []struct {
		name             string
		index, vni, link uint32
		port             uint16
	}{{Flannel, flannelIndex, 1, nicIndex, Port}, {ByAddress, byAddressIndex, 5, 0, IANAPort}} {
		if k.isGone(d.name) {
			continue
		}
		data := nl.Append(nil, unix.IFLA_VXLAN_ID, u32(d.vni))
		if d.link != 0 {
			data = nl.Append(data, unix.IFLA_VXLAN_LINK, u32(d.link))
		}
		data = nl.Append(data, unix.IFLA_VXLAN_LOCAL, Address().AsSlice())
		data = nl.Append(data, unix.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, d.port))
		if !k.Old {
			data = nl.Append(data, unix.IFLA_VXLAN_UDP_CSUM, []byte{1})
			data = nl.Append(data, unix.IFLA_VXLAN_UDP_ZERO_CSUM6_TX, []byte{0})
			data = nl.Append(data, unix.IFLA_VXLAN_UDP_ZERO_CSUM6_RX, []byte{0})
			data = nl.Append(data, unix.IFLA_VXLAN_COLLECT_METADATA, []byte{0})
		}
		out = append(out, k.link(d.index, d.name, data))
	}
	return out
}

// link is an RTM_NEWLINK message; vxlan is IFLA_INFO_DATA of a VXLAN device, nil of another.
func (k *Kernel) link(index uint32, name string, vxlan []byte) netlink.Message {
	b := append(make([]byte, 4), binary.NativeEndian.AppendUint32(nil, index)...)
	b = binary.NativeEndian.AppendUint32(b, unix.IFF_UP|unix.IFF_LOWER_UP)
	b = append(b, 0, 0, 0, 0)
	b = nl.Append(b, unix.IFLA_IFNAME, name+"\x00")
	b = nl.Append(b, unix.IFLA_MTU, binary.NativeEndian.AppendUint32(nil, 1500))
	if vxlan != nil {
		info := nl.Append(nl.Append(nil, unix.IFLA_INFO_KIND, "vxlan\x00"), unix.IFLA_INFO_DATA, vxlan)
		b = nl.Append(b, unix.IFLA_LINKINFO, info)
	}
	return netlink.Message{Header: netlink.Header{Type: unix.RTM_NEWLINK}, Data: b}
}
