package probe

import (
	"encoding/binary"
	"math/rand/v2"

	"golang.org/x/sys/unix"
)

// echoSocket is how echo requests can be sent.
type echoSocket int

const (
	noEcho   echoSocket = iota
	pingEcho            // icmp(7): a group in net.ipv4.ping_group_range
	rawEcho             // raw(7): CAP_NET_RAW
)

// echoHeader is type, code, checksum, identifier and sequence number (RFC 792, RFC 4443).
const echoHeader = 8

// echoID tells the answers to one request from others. The kernel puts its own identifier into requests of a ping
// socket.
type echoID struct {
	raw  bool
	id   uint16
	sequ uint16
}

func newEchoID() echoID {
	return echoID{id: uint16(rand.Uint32()), sequ: uint16(rand.Uint32())} //nolint:gosec // any 16 bits
}

// put writes the header. A raw socket of IPv4 leaves the checksum to its user, the others have the kernel's CPU make
// it.
func (e echoID) put(data []byte, six bool) {
	data[0] = 8
	if six {
		data[0] = 128
	}
	binary.BigEndian.PutUint16(data[4:], e.id)
	binary.BigEndian.PutUint16(data[6:], e.sequ)
	if e.raw && !six {
		binary.BigEndian.PutUint16(data[2:], checksum(data))
	}
}

// answers reports whether a packet that the socket received answers the request. A raw socket of IPv4 receives the IP
// header too.
func (e echoID) answers(data []byte, six bool) bool {
	if e.raw && !six {
		if len(data) < 20 || len(data) < int(data[0]&0xf)*4 {
			return false
		}
		data = data[int(data[0]&0xf)*4:]
	}
	reply := byte(0)
	if six {
		reply = 129
	}
	return len(data) >= echoHeader && data[0] == reply && binary.BigEndian.Uint16(data[6:]) == e.sequ &&
		(!e.raw || binary.BigEndian.Uint16(data[4:]) == e.id)
}

// filter lets a raw socket receive nothing but echo replies (raw(7), ICMP_FILTER; RFC 3542 section 3.2).
func (e echoID) filter(fd int, six bool) error {
	if six {
		var f unix.ICMPv6Filter
		for i := range f.Data {
			f.Data[i] = ^uint32(0)
		}
		f.Data[129>>5] &^= 1 << (129 & 31)
		return unix.SetsockoptICMPv6Filter(fd, unix.IPPROTO_ICMPV6, unix.ICMPV6_FILTER, &f)
	}
	const solRaw, icmpFilter = 255, 1 // SOL_RAW, ICMP_FILTER of include/uapi/linux/icmp.h
	return unix.SetsockoptInt(fd, solRaw, icmpFilter, ^1)
}

// checksum is the Internet checksum (RFC 1071) of data whose checksum field is 0.
func checksum(data []byte) uint16 {
	var sum uint32
	for ; len(data) > 1; data = data[2:] {
		sum += uint32(binary.BigEndian.Uint16(data))
	}
	if len(data) == 1 {
		sum += uint32(data[0]) << 8
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
