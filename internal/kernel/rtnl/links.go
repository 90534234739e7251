package rtnl

import (
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/nl"
)

// kind is the rtnl_link_ops kind of VXLAN devices (drivers/net/vxlan/vxlan_core.c).
const kind = "vxlan"

// Attributes of IFLA_VXLAN, enum in include/uapi/linux/if_link.h; an ABI, so the numbers hold for every kernel.
const (
	vxlanID              = 1
	vxlanGroup           = 2
	vxlanLink            = 3
	vxlanLocal           = 4
	vxlanPort            = 15
	vxlanGroup6          = 16
	vxlanLocal6          = 17
	vxlanUDPChecksum     = 18
	vxlanUDP6ZeroTx      = 19
	vxlanUDP6ZeroRx      = 20
	vxlanCollectMetadata = 25
)

// skipStats asks for messages without counters, which are half their size (RTEXT_FILTER_SKIP_STATS, 4.4; older kernels
// ignore it).
const skipStats = 1 << 3

// Links lists the VXLAN devices of the socket's network namespace in one dump, sorted by index. A device whose message
// is malformed is left out and an error reported along with the others. The dump needs no capability.
func (c *Conn) Links() ([]Link, error) {
	var links []Link
	var bad error
	err := c.Dump(unix.RTM_GETLINK, unix.RTM_NEWLINK, linkDump(), func() { links, bad = links[:0], nil },
		func(data []byte) error {
			link, ok, err := parseLink(data)
			switch {
			case err != nil && bad == nil:
				bad = fmt.Errorf("rtnetlink: link %d (%q): %w", link.Index, link.Name, err)
			case err == nil && ok:
				links = append(links, link)
			}
			return nil
		})
	if err != nil {
		return nil, fmt.Errorf("rtnetlink: dump vxlan links: %w", err)
	}
	sort.SliceStable(links, func(i, j int) bool { return links[i].Index < links[j].Index })
	// A device that is changed while the dump runs can come twice.
	links = slices.CompactFunc(links, func(a, b Link) bool { return a.Index == b.Index })
	return links, bad
}

// linkDump is an RTM_GETLINK request that asks the kernel to send VXLAN devices only (4.6; older kernels send all).
func linkDump() []byte {
	b := make([]byte, unix.SizeofIfInfomsg, 64)
	b = nl.Append(b, unix.IFLA_EXT_MASK, binary.NativeEndian.AppendUint32(nil, skipStats))
	return nl.Append(b, unix.IFLA_LINKINFO, nl.Append(nil, unix.IFLA_INFO_KIND, kind+"\x00"))
}

// parseLink reads an RTM_NEWLINK message. ok is false when it is not a VXLAN device.
func parseLink(data []byte) (link Link, ok bool, err error) {
	if len(data) < unix.SizeofIfInfomsg {
		return link, false, nl.ErrMalformed
	}
	link.Index, link.Up = linkHeader(data)
	err = nl.Each(data[unix.SizeofIfInfomsg:], func(typ uint16, v []byte) (err error) {
		switch typ {
		case unix.IFLA_IFNAME:
			link.Name = nl.Text(v)
		case unix.IFLA_MTU:
			link.MTU, err = nl.Uint32(v)
		case unix.IFLA_LINK_NETNSID:
			var id uint32
			if id, err = nl.Uint32(v); err == nil {
				signed := int32(id)
				link.LinkNetns = &signed
			}
		case unix.IFLA_LINKINFO:
			ok, err = parseLinkInfo(&link, v)
		}
		return err
	})
	if err == nil && ok && (link.Index <= 0 || link.Name == "") {
		err = nl.ErrMalformed
	}
	return link, ok, err
}

// linkHeader reads struct ifinfomsg: family u8, pad u8, type u16, index s32, flags u32, change u32.
func linkHeader(b []byte) (index int, up bool) {
	return int(int32(binary.NativeEndian.Uint32(b[4:]))), binary.NativeEndian.Uint32(b[8:])&unix.IFF_UP != 0
}

// parseLinkInfo reads IFLA_LINKINFO. The kernel sends the kind ahead of the data, but nothing promises it.
func parseLinkInfo(link *Link, b []byte) (isVXLAN bool, err error) {
	var data []byte
	err = nl.Each(b, func(typ uint16, v []byte) error {
		switch typ {
		case unix.IFLA_INFO_KIND:
			isVXLAN = nl.Text(v) == kind
		case unix.IFLA_INFO_DATA:
			data = v
		}
		return nil
	})
	if err != nil || !isVXLAN {
		return false, err
	}
	return true, nl.Each(data, func(typ uint16, v []byte) error { return parseVXLAN(link, typ, v) })
}

func parseVXLAN(link *Link, typ uint16, v []byte) (err error) {
	switch typ {
	case vxlanID:
		link.VNI, err = nl.Uint32(v)
	case vxlanGroup:
		link.Remote, err = nl.Address(v, 4)
	case vxlanGroup6:
		link.Remote, err = nl.Address(v, 16)
	case vxlanLink:
		link.UnderlayIndex, err = nl.Index(v)
	case vxlanLocal:
		link.Local, err = nl.Address(v, 4)
	case vxlanLocal6:
		link.Local, err = nl.Address(v, 16)
	case vxlanPort:
		if len(v) < 2 {
			return nl.ErrMalformed
		}
		link.Port = binary.BigEndian.Uint16(v)
	case vxlanUDPChecksum:
		link.UDPChecksum = nl.Flag(v)
	case vxlanUDP6ZeroTx:
		link.UDP6ZeroChecksumTx = nl.Flag(v)
	case vxlanUDP6ZeroRx:
		link.UDP6ZeroChecksumRx = nl.Flag(v)
	case vxlanCollectMetadata:
		link.External = nl.Flag(v)
	}
	return err
}
