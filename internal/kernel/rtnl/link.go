// Package rtnl reads links, addresses, neighbors and routes over rtnetlink. None of it needs a capability.
package rtnl

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// Link is a network device as RTM_GETLINK describes it (include/uapi/linux/if_link.h). A nil pointer means that the
// kernel did not send the attribute, which is not the same as false.
type Link struct {
	Index   int    `json:"index"`
	Name    string `json:"name"`
	Up      bool   `json:"up"` // IFF_UP: switched on by the administrator
	MTU     uint32 `json:"mtu,omitempty"`
	Running bool   `json:"-"` // IFF_LOWER_UP: the driver has carrier
	Flags   uint32 `json:"-"` // IFF_*
	Kind    string `json:"-"` // IFLA_INFO_KIND, such as "bridge"; empty for hardware
	Master  int    `json:"-"` // index of the bridge or the like that it is a port of; 0: none
	InVRF   bool   `json:"-"` // its master is a VRF
	Lower   int    `json:"-"` // IFLA_LINK: what a VLAN, for example, is made on, here; 0: none
	Bus     bool   `json:"-"` // IFLA_PARENT_DEV_NAME (5.14): a device of a bus, as a NIC is
	Type    uint16 `json:"-"` // ARPHRD_*: of its link layer

	Received uint64 `json:"-"` // packets (struct rtnl_link_stats64, rx_packets and tx_packets)
	Sent     uint64 `json:"-"`

	// Of a VXLAN device (IFLA_VXLAN_*).

	VNI           uint32     `json:"vni"`    // IFLA_VXLAN_ID; 0 on an external device
	Port          uint16     `json:"port"`   // IFLA_VXLAN_PORT, host byte order
	Local         netip.Addr `json:"local"`  // IFLA_VXLAN_LOCAL or LOCAL6; the zero Addr when unset
	Remote        netip.Addr `json:"remote"` // IFLA_VXLAN_GROUP or GROUP6
	FirstPort     uint16     `json:"-"`      // IFLA_VXLAN_PORT_RANGE: its source ports; 0: those of sockets
	LastPort      uint16     `json:"-"`
	UnderlayIndex int        `json:"underlay_index,omitempty"` // IFLA_VXLAN_LINK; 0 when unset
	// IFLA_LINK_NETNSID: the device was moved away from the namespace its socket is in
	LinkNetns *int32 `json:"link_netns,omitempty"`

	External           *bool `json:"external,omitempty"` // IFLA_VXLAN_COLLECT_METADATA
	UDPChecksum        *bool `json:"udp_checksum,omitempty"`
	UDP6ZeroChecksumTx *bool `json:"udp6_zero_checksum_tx,omitempty"`
	UDP6ZeroChecksumRx *bool `json:"udp6_zero_checksum_rx,omitempty"`
}

// kind is the rtnl_link_ops kind of VXLAN devices (drivers/net/vxlan/vxlan_core.c).
const kind = "vxlan"

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

// Links lists the VXLAN devices of the socket's network namespace in one dump, sorted by index. A device whose message
// is malformed is left out and an error reported along with the others.
func (c *Conn) Links() ([]Link, error) {
	// The kernel is asked for VXLAN devices only (4.6; older ones send all).
	request := nl.Append(LinkRequest(0), unix.IFLA_LINKINFO, nl.Append(nil, unix.IFLA_INFO_KIND, kind+"\x00"))
	links, err := dump(c, "vxlan links", unix.RTM_GETLINK, unix.RTM_NEWLINK, request, ParseLink)
	links = slices.DeleteFunc(links, func(l Link) bool { return l.Kind != kind })
	sort.SliceStable(links, func(i, j int) bool { return links[i].Index < links[j].Index })
	// A device that is changed while the dump runs can come twice.
	return slices.CompactFunc(links, func(a, b Link) bool { return a.Index == b.Index }), err
}

// NIC reads the device with this index, of whatever kind. The error of a device that is gone satisfies fs.ErrNotExist.
func (c *Conn) NIC(index int) (Link, error) {
	return c.link(LinkRequest(index), fmt.Sprintf("index %d", index))
}

// NICByName reads the device of this name. The error of a device that is gone satisfies fs.ErrNotExist.
func (c *Conn) NICByName(name string) (Link, error) {
	if name == "" || len(name) >= unix.IFNAMSIZ {
		return Link{}, fmt.Errorf("rtnetlink: link %q: no such name can be: %w", name, fs.ErrNotExist)
	}
	return c.link(nl.Append(LinkRequest(0), unix.IFLA_IFNAME, name+"\x00"), fmt.Sprintf("%q", name))
}

// LinkRequest asks for one link, or, with index 0, for all, in messages without the counters of IPv6 and of virtual
// functions, which are half their size (RTEXT_FILTER_SKIP_STATS, 4.4; older kernels ignore it).
func LinkRequest(index int) []byte {
	const skipStats = 1 << 3
	return nl.Append(header(unix.SizeofIfInfomsg, unix.AF_UNSPEC, index), unix.IFLA_EXT_MASK, number(uint32(skipStats)))
}

func (c *Conn) link(request []byte, what string) (link Link, err error) {
	data, err := c.Get(unix.RTM_GETLINK, unix.RTM_NEWLINK, request)
	if errors.Is(err, unix.ENODEV) {
		err = fmt.Errorf("%w: %w", err, fs.ErrNotExist)
	}
	if err == nil {
		link, err = ParseLink(data)
	}
	if err != nil {
		return Link{}, fmt.Errorf("rtnetlink: link %s: %w", what, err)
	}
	return link, nil
}

// ParseLink reads an RTM_NEWLINK message.
func ParseLink(data []byte) (l Link, err error) {
	err = l.parse(data)
	if err == nil && (l.Index <= 0 || l.Name == "") {
		err = nl.ErrMalformed
	}
	if err != nil {
		err = fmt.Errorf("link %d (%q): %w", l.Index, l.Name, err)
	}
	return l, err
}

func (l *Link) parse(data []byte) error {
	// struct ifinfomsg: family u8, pad u8, type u16, index s32, flags u32, change u32
	if len(data) < unix.SizeofIfInfomsg {
		return nl.ErrMalformed
	}
	l.Flags = binary.NativeEndian.Uint32(data[8:])
	l.Type, l.Index = binary.NativeEndian.Uint16(data[2:]), int(int32(binary.NativeEndian.Uint32(data[4:])))
	l.Up, l.Running = l.Flags&unix.IFF_UP != 0, l.Flags&unix.IFF_LOWER_UP != 0
	err := nl.Each(data[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) (err error) {
		switch typ {
		case unix.IFLA_IFNAME:
			l.Name = nl.Text(v)
		case unix.IFLA_MTU:
			l.MTU, err = nl.Uint32(v)
		case unix.IFLA_MASTER:
			l.Master, err = nl.Index(v)
		case unix.IFLA_LINK:
			l.Lower, err = nl.Index(v)
		case unix.IFLA_PARENT_DEV_NAME:
			l.Bus = true
		case unix.IFLA_STATS64:
			if len(v) < 16 {
				return nl.ErrMalformed
			}
			l.Received, l.Sent = binary.NativeEndian.Uint64(v), binary.NativeEndian.Uint64(v[8:])
		case unix.IFLA_LINK_NETNSID:
			var id int
			id, err = nl.Index(v)
			l.LinkNetns = new(int32(id)) //nolint:gosec // it was read as one
		case unix.IFLA_LINKINFO:
			err = l.parseInfo(v)
		}
		return err
	})
	if l.LinkNetns != nil { // then IFLA_LINK is an index there
		l.Lower = 0
	}
	return err
}

// parseInfo reads IFLA_LINKINFO. The kernel sends the kind ahead of the data, but nothing promises it.
func (l *Link) parseInfo(b []byte) error {
	var data []byte
	err := nl.Each(b, func(typ uint16, v []byte) error {
		switch typ {
		case unix.IFLA_INFO_KIND:
			l.Kind = nl.Text(v)
		case unix.IFLA_INFO_DATA:
			data = v
		case unix.IFLA_INFO_SLAVE_KIND:
			l.InVRF = nl.Text(v) == "vrf"
		}
		return nil
	})
	if err != nil || l.Kind != kind {
		return err
	}
	return nl.Each(data, l.parseVXLAN)
}

func (l *Link) parseVXLAN(typ uint16, v []byte) (err error) {
	switch typ {
	case unix.IFLA_VXLAN_ID:
		l.VNI, err = nl.Uint32(v)
	case unix.IFLA_VXLAN_GROUP:
		l.Remote, err = nl.Address(v, 4)
	case unix.IFLA_VXLAN_GROUP6:
		l.Remote, err = nl.Address(v, 16)
	case unix.IFLA_VXLAN_LINK:
		l.UnderlayIndex, err = nl.Index(v)
	case unix.IFLA_VXLAN_LOCAL:
		l.Local, err = nl.Address(v, 4)
	case unix.IFLA_VXLAN_LOCAL6:
		l.Local, err = nl.Address(v, 16)
	case unix.IFLA_VXLAN_PORT:
		if len(v) < 2 {
			return nl.ErrMalformed
		}
		l.Port = binary.BigEndian.Uint16(v)
	case unix.IFLA_VXLAN_PORT_RANGE: // struct {be16 low, high}
		if len(v) < 4 {
			return nl.ErrMalformed
		}
		l.FirstPort, l.LastPort = binary.BigEndian.Uint16(v), binary.BigEndian.Uint16(v[2:])
	case unix.IFLA_VXLAN_UDP_CSUM:
		l.UDPChecksum = nl.Flag(v)
	case unix.IFLA_VXLAN_UDP_ZERO_CSUM6_TX:
		l.UDP6ZeroChecksumTx = nl.Flag(v)
	case unix.IFLA_VXLAN_UDP_ZERO_CSUM6_RX:
		l.UDP6ZeroChecksumRx = nl.Flag(v)
	case unix.IFLA_VXLAN_COLLECT_METADATA:
		l.External = nl.Flag(v)
	}
	return err
}
