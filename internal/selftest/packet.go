package selftest

import "encoding/binary"

// outer is what matters of an outer packet.
type outer struct {
	sourcePort uint16
	field      uint16 // UDP checksum field
	correct    uint16 // what the sum over the packet gives; never 0
	vni        uint32
}

const (
	ethernetLen = 14
	udpLen      = 8
	vxlanLen    = 8 // RFC 7348, section 5
	protoUDP    = 17
)

// parseOuter reads an Ethernet frame that carries VXLAN, as the device at the far end got it. It fails on anything else.
func parseOuter(frame []byte) (outer, bool) {
	if len(frame) < ethernetLen {
		return outer{}, false
	}
	packet := frame[ethernetLen:]
	var addresses, udp []byte
	switch binary.BigEndian.Uint16(frame[12:]) {
	case 0x0800: // without options: the kernel sends none
		if len(packet) < 20 || packet[0] != 0x45 || packet[9] != protoUDP {
			return outer{}, false
		}
		addresses, udp = packet[12:20], packet[20:]
	case 0x86dd: // without extension headers: the kernel sends none
		if len(packet) < 40 || packet[0]>>4 != 6 || packet[6] != protoUDP {
			return outer{}, false
		}
		addresses, udp = packet[8:40], packet[40:]
	default:
		return outer{}, false
	}
	if len(udp) < udpLen+vxlanLen {
		return outer{}, false
	}
	// The frame may be padded beyond the datagram.
	length := int(binary.BigEndian.Uint16(udp[4:]))
	if length < udpLen+vxlanLen || length > len(udp) || binary.BigEndian.Uint16(udp[2:]) != vxlanPort {
		return outer{}, false
	}
	udp = udp[:length]
	return outer{
		sourcePort: binary.BigEndian.Uint16(udp),
		field:      binary.BigEndian.Uint16(udp[6:]),
		correct:    udpChecksum(addresses, udp),
		vni:        binary.BigEndian.Uint32(udp[udpLen+4:]) >> 8,
	}, true
}

// udpChecksum is the sum of RFC 768 and RFC 8200, section 8.1, over the pseudo-header and the datagram, with the field counted as 0.
// A sum of 0 is sent as 0xffff.
func udpChecksum(addresses, udp []byte) uint16 {
	sum := uint32(protoUDP) + uint32(len(udp))
	add := func(b []byte) {
		for ; len(b) > 1; b = b[2:] {
			sum += uint32(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			sum += uint32(b[0]) << 8
		}
	}
	add(addresses)
	add(udp[:6])
	add(udp[8:])
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	if sum == 0xffff {
		return 0xffff
	}
	return ^uint16(sum)
}
