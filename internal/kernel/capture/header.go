package capture

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// datagram is a UDP datagram as it was found in a frame.
type datagram struct {
	source, destination netip.AddrPort
	offset              int    // of the UDP header in the frame
	length              int    // UDP length: header and payload
	available           int    // bytes the IP packet has for it
	pseudo              uint16 // sum of the pseudo-header (RFC 768, RFC 8200 section 8.1)
	fragment            bool
	badHeader           bool // the IPv4 header checksum is wrong
}

// parse finds the UDP header in a frame. ok is false when the frame is too short or is something else; IPv4 options and
// IPv6 extension headers are, as in Filter.Program, and so are all fragments but the first.
func parse(frame []byte, link Link) (d datagram, ok bool) {
	offset, typ := network(frame, link)
	ip := frame[offset:]
	var source, destination netip.Addr
	switch {
	case typ == unix.ETH_P_IP && len(ip) >= ipv4Header && ip[0] == 0x45 && ip[9] == unix.IPPROTO_UDP:
		fragment := binary.BigEndian.Uint16(ip[6:])
		if fragment&0x1fff != 0 {
			return d, false
		}
		d.fragment = fragment&0x2000 != 0 // MF
		d.badHeader = fold(sum(0, ip[:ipv4Header])) != 0xffff
		d.available = int(binary.BigEndian.Uint16(ip[2:])) - ipv4Header
		d.pseudo = fold(sum(0, ip[12:20]))
		source, destination = netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20]))
		d.offset = offset + ipv4Header
	case typ == unix.ETH_P_IPV6 && len(ip) >= ipv6Header && ip[0]>>4 == 6 && ip[6] == unix.IPPROTO_UDP:
		d.available = int(binary.BigEndian.Uint16(ip[4:]))
		d.pseudo = fold(sum(0, ip[8:40]))
		source, destination = netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40]))
		d.offset = offset + ipv6Header
	default:
		return d, false
	}
	if len(frame) < d.offset+udpHeader {
		return d, false
	}
	udp := frame[d.offset:]
	d.source = netip.AddrPortFrom(source, binary.BigEndian.Uint16(udp))
	d.destination = netip.AddrPortFrom(destination, binary.BigEndian.Uint16(udp[2:]))
	d.length = int(binary.BigEndian.Uint16(udp[4:]))
	d.pseudo = fold(uint64(d.pseudo) + unix.IPPROTO_UDP + uint64(d.length))
	return d, true
}

// vlanTypes are the Ethernet types of tags: 802.1Q, 802.1ad, and stacked tags before that.
var vlanTypes = [...]uint16{unix.ETH_P_8021Q, unix.ETH_P_8021AD, unix.ETH_P_QINQ1}

// network finds what is behind the link layer's header. typ is 0 when nothing is.
func network(frame []byte, link Link) (offset int, typ uint16) {
	if link == RawIP {
		switch {
		case len(frame) == 0:
		case frame[0]>>4 == 4:
			typ = unix.ETH_P_IP
		case frame[0]>>4 == 6:
			typ = unix.ETH_P_IPV6
		}
		return 0, typ
	}
	for tags := range maxVLANTags + 1 {
		offset = etherHeader + tags*vlanTag
		if len(frame) < offset {
			break
		}
		typ = binary.BigEndian.Uint16(frame[offset-2:])
		if !slices.Contains(vlanTypes[:], typ) {
			return offset, typ
		}
	}
	return 0, 0
}

// innerChecksum finds the TCP or UDP header of the packet that a VXLAN payload carries: the offset in b, which begins
// at the outer UDP header, where its checksum starts, and that of the checksum field within it. ok is false where there
// is none, or a fragment.
func innerChecksum(b []byte) (start, field int, ok bool) {
	frame := b[udpHeader+vxlanHeader:]
	offset, typ := network(frame, Ethernet)
	ip := frame[offset:]
	start = udpHeader + vxlanHeader + offset
	var protocol byte
	switch {
	case typ == unix.ETH_P_IP && len(ip) >= ipv4Header && ip[0] >= 0x45 && ip[0] < 0x50 &&
		binary.BigEndian.Uint16(ip[6:])&0x3fff == 0:
		protocol = ip[9]
		start += int(ip[0]&0xf) * 4
	case typ == unix.ETH_P_IPV6 && len(ip) >= ipv6Header && ip[0]>>4 == 6:
		protocol = ip[6]
		start += ipv6Header
	}
	switch protocol {
	case unix.IPPROTO_TCP:
		field = 16
	case unix.IPPROTO_UDP:
		field = 6
	default:
		return 0, 0, false
	}
	return start, field, len(b) >= start+field+2
}
