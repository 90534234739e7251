package probe

import (
	"errors"
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
	err = unix.Connect(p.fd, sockaddr(p.from.target.Peer, port))
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
		size, err := p.mtu(six)
		if err != nil {
			return err
		}
		p.from.size = size
		header := 20 + udpHeader
		if six {
			header = 40 + udpHeader
		}
		if p.ask.kind == echo { // its header, as long as UDP's, is among the data
			header -= echoHeader
		}
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

const udpHeader = 8

// mtu is that of the path as the kernel knows it: packets longer than that are nobody's.
func (p *packet) mtu(six bool) (int, error) {
	if six {
		return unix.GetsockoptInt(p.fd, unix.IPPROTO_IPV6, unix.IPV6_MTU)
	}
	return unix.GetsockoptInt(p.fd, unix.IPPROTO_IP, unix.IP_MTU)
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
