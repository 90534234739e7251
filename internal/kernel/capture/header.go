package capture

import (
	"encoding/binary"
	"net/netip"
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
// IPv6 extension headers are, as in Filter.Program.
func parse(frame []byte, link Link) (d datagram, ok bool) {
	offset, typ, ok := network(frame, link)
	if !ok {
		return d, false
	}
	ip := frame[offset:]
	var source, destination netip.Addr
	switch typ {
	case etherIPv4:
		source, destination, ok = d.ipv4(ip)
	case etherIPv6:
		source, destination, ok = d.ipv6(ip)
	default:
		return d, false
	}
	if !ok || len(ip) < d.offset+udpHeader {
		return d, false
	}
	udp := ip[d.offset:]
	d.offset += offset
	d.source = netip.AddrPortFrom(source, binary.BigEndian.Uint16(udp))
	d.destination = netip.AddrPortFrom(destination, binary.BigEndian.Uint16(udp[2:]))
	d.length = int(binary.BigEndian.Uint16(udp[4:]))
	d.pseudo = fold(uint64(d.pseudo) + protoUDP + uint64(d.length))
	return d, true
}

// network finds the IP header behind the link layer's.
func network(frame []byte, link Link) (offset int, typ uint16, ok bool) {
	if link == RawIP {
		if len(frame) == 0 {
			return 0, 0, false
		}
		switch frame[0] >> 4 {
		case 4:
			return 0, etherIPv4, true
		case 6:
			return 0, etherIPv6, true
		}
		return 0, 0, false
	}
	for tags := range maxVLANTags + 1 {
		offset = etherHeader + tags*vlanTag
		if len(frame) < offset {
			return 0, 0, false
		}
		typ = binary.BigEndian.Uint16(frame[offset-2:])
		if typ != etherVLAN && typ != etherQinQ && typ != etherOldQ {
			return offset, typ, true
		}
	}
	return 0, 0, false
}

func (d *datagram) ipv4(ip []byte) (source, destination netip.Addr, ok bool) {
	if len(ip) < ipv4Header || ip[0] != 0x45 || ip[9] != protoUDP {
		return source, destination, false
	}
	d.offset = ipv4Header
	fragment := binary.BigEndian.Uint16(ip[6:])
	if fragment&0x1fff != 0 {
		return source, destination, false
	}
	d.fragment = fragment&0x2000 != 0 // MF
	d.badHeader = fold(sum(0, ip[:ipv4Header])) != 0xffff
	d.available = int(binary.BigEndian.Uint16(ip[2:])) - ipv4Header
	d.pseudo = fold(sum(0, ip[12:20]))
	return netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20])), true
}

func (d *datagram) ipv6(ip []byte) (source, destination netip.Addr, ok bool) {
	if len(ip) < ipv6Header || ip[0]>>4 != 6 || ip[6] != protoUDP {
		return source, destination, false
	}
	d.offset = ipv6Header
	d.available = int(binary.BigEndian.Uint16(ip[4:]))
	d.pseudo = fold(sum(0, ip[8:40]))
	return netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40])), true
}

// innerChecksum finds the TCP or UDP header of the packet that a VXLAN payload carries: the offset in b, which begins
// at the outer UDP header, where its checksum starts, and that of the checksum field within it. ok is false where there
// is none, or a fragment.
func innerChecksum(b []byte) (start, field int, ok bool) {
	frame := b[udpHeader+vxlanHeader:]
	offset, typ, ok := network(frame, Ethernet)
	if !ok {
		return 0, 0, false
	}
	ip := frame[offset:]
	start = udpHeader + vxlanHeader + offset
	var protocol byte
	switch {
	case typ == etherIPv4 && len(ip) >= ipv4Header && ip[0] >= 0x45 && ip[0] < 0x50 &&
		binary.BigEndian.Uint16(ip[6:])&0x3fff == 0:
		protocol = ip[9]
		start += int(ip[0]&0xf) * 4
	case typ == etherIPv6 && len(ip) >= ipv6Header && ip[0]>>4 == 6:
		protocol = ip[6]
		start += ipv6Header
	}
	switch protocol {
	case protoTCP:
		field = 16
	case protoUDP:
		field = 6
	default:
		return 0, 0, false
	}
	return start, field, len(b) >= start+field+2
}
