package probe

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// payload is what a small datagram carries, for whoever captures it.
const payload = "vxlan_exporter probe"

// packet is a packet on its way, with a socket of its own: only the first packet of a flow passes the nat table.
type packet struct {
	ask  ask
	from *exchange
	fd   int
	sent time.Time
	echo echoID
}

// send sends one packet. nil: it could not be sent.
func (e *exchange) send(a ask) *packet {
	p := &packet{ask: a, from: e, fd: -1}
	if err := p.open(); err != nil {
		p.close()
		if a.full && errors.Is(err, unix.EMSGSIZE) {
			return nil // the kernel knows of a smaller MTU, and so do those who send
		}
		e.refuse(a, err)
		return nil
	}
	return p
}

func (p *packet) open() (err error) {
	six, found := p.from.six, p.from.found
	if p.fd, p.echo, err = socket(p.ask.kind, six, found.can.echo[index(six)]); err != nil {
		return err
	}
	if p.ask.marked {
		if err := unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_MARK, int(found.Mark)); err != nil {
			return err
		}
	}
	if err := p.options(six); err != nil {
		return err
	}
	if err := unix.Bind(p.fd, sockaddr(p.from.sender.Source, 0)); err != nil {
		return err
	}
	p.sent = time.Now()
	err = unix.Connect(p.fd, sockaddr(p.from.peer, port))
	if p.ask.kind == syn {
		if errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.ECONNREFUSED) {
			return nil
		}
		return err
	}
	if err != nil {
		return err
	}
	return p.write(six)
}

func socket(k kind, six bool, how echoSocket) (int, echoID, error) {
	domain, typ, proto := unix.AF_INET, unix.SOCK_DGRAM, 0
	if six {
		domain = unix.AF_INET6
	}
	var id echoID
	switch k {
	case syn:
		typ = unix.SOCK_STREAM
	case echo:
		proto, id = unix.IPPROTO_ICMP, newEchoID()
		if six {
			proto = unix.IPPROTO_ICMPV6
		}
		if how == rawEcho {
			typ, id.raw = unix.SOCK_RAW, true
		}
	}
	fd, err := unix.Socket(domain, typ|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	return fd, id, err
}

// options sets what the kind needs. Without IP_RECVERR (ip(7)) nobody tells who answered.
func (p *packet) options(six bool) error {
	level, recvErr, discover := unix.IPPROTO_IP, unix.IP_RECVERR, unix.IP_MTU_DISCOVER
	if six {
		level, recvErr, discover = unix.IPPROTO_IPV6, unix.IPV6_RECVERR, unix.IPV6_MTU_DISCOVER
	}
	err := unix.SetsockoptInt(p.fd, level, recvErr, 1)
	if p.ask.full { // never fragmented here, whatever MTU the kernel has learned; IPV6_PMTUDISC_PROBE has the same value
		err = errors.Join(err, unix.SetsockoptInt(p.fd, level, discover, unix.IP_PMTUDISC_PROBE))
	}
	switch {
	case p.ask.kind == soft && !six:
		err = errors.Join(err, unix.SetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_NO_CHECK, 1))
	case p.ask.kind == echo && p.echo.raw:
		err = errors.Join(err, p.echo.filter(p.fd, six))
	}
	return err
}

// write sends the datagram.
func (p *packet) write(six bool) error {
	data := []byte(payload)
	if p.ask.kind == echo {
		data = make([]byte, echoHeader+len(payload))
		copy(data[echoHeader:], payload)
	}
	if p.ask.full {
		level, option, header := unix.IPPROTO_IP, unix.IP_MTU, 20
		if six {
			level, option, header = unix.IPPROTO_IPV6, unix.IPV6_MTU, 40
		}
		if p.ask.kind != echo { // whose header, as long as UDP's, is among the data
			header += 8
		}
		// That of the path as the kernel knows it: packets longer than that are nobody's.
		size, err := unix.GetsockoptInt(p.fd, level, option)
		if err != nil {
			return err
		}
		p.from.size = size
		data = append(data, make([]byte, max(0, size-header-len(data)))...)
	}
	if p.ask.kind == echo {
		p.echo.put(data, six)
	}
	if p.ask.kind == soft && six {
		// A datagram of several parts has its checksum made by the CPU (net/ipv6/ip6_output.c, __ip6_append_data: MSG_MORE,
		// from 4.4).
		if err := unix.Send(p.fd, data[:1], unix.MSG_MORE); err != nil {
			return err
		}
		data = data[1:]
	}
	return unix.Send(p.fd, data, 0)
}

func (p *packet) close() {
	if p.fd >= 0 {
		unix.Close(p.fd)
		p.fd = -1
	}
}

func sockaddr(a netip.Addr, port int) unix.Sockaddr {
	if a = a.Unmap(); a.Is4() {
		return &unix.SockaddrInet4{Port: port, Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Port: port, Addr: a.As16()}
}

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

// checksum is the Internet checksum (RFC 1071) of data, 64 KiB at most, whose checksum field is 0.
func checksum(data []byte) uint16 {
	var sum uint32
	for i, b := range data {
		sum += uint32(b) << (8 * (^i & 1))
	}
	sum = sum>>16 + sum&0xffff
	return ^uint16(sum>>16 + sum)
}

// capabilities are what this process may send.
type capabilities struct {
	mark error         // why packets cannot be marked; nil: they can
	echo [2]echoSocket // of IPv4 and IPv6
}

// permissions tries what is permitted, without sending anything.
func permissions(mark uint32) *capabilities {
	can := &capabilities{}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(mark))
		unix.Close(fd)
	}
	can.mark = err
	for _, six := range []bool{false, true} {
		for _, how := range []echoSocket{rawEcho, pingEcho} { // the second is taken where it can be
			if fd, _, err := socket(echo, six, how); err == nil {
				unix.Close(fd)
				can.echo[index(six)] = how
			}
		}
	}
	return can
}
