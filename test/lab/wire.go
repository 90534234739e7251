package lab

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Wire watches the outer packets that arrive at node B, before netfilter and the counters see them.
type Wire struct {
	fd   int
	port uint16
	seen WireCount
}

// WireCount is what a Wire has seen.
type WireCount struct {
	Packets int         // to the VXLAN port
	Zero    int         // of these, without a checksum
	Bad     []BadPacket // of these, with a wrong one
}

// BadPacket is an outer packet whose UDP checksum is wrong.
type BadPacket struct {
	Received       time.Time // by the kernel's clock, as the packet arrived
	Source         netip.AddrPort
	Field, Correct uint16 // checksum as it is and as it should be
}

// WatchWire starts to watch. The kernel queues the packets until Count reads them.
func (r *Rig) WatchWire() (*Wire, error) {
	w := &Wire{port: r.opts.Port}
	return w, r.B.Do(func() error {
		link, err := net.InterfaceByName(Underlay)
		if err != nil {
			return err
		}
		// Protocol 0 receives nothing until it is bound to the link (packet(7)).
		if w.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return fmt.Errorf("packet socket: %w (needs CAP_NET_RAW)", err)
		}
		err = errors.Join(
			receiveBuffer(w.fd, 8<<20),
			unix.SetsockoptInt(w.fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1),
			unix.Bind(w.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Index}),
		)
		if err != nil {
			return errors.Join(err, w.Close())
		}
		return nil
	})
}

// Close ends the watch.
func (w *Wire) Close() error { return unix.Close(w.fd) }

// Count reads everything that has arrived by now and returns the sums since the watch began. It fails when the kernel
// had to drop packets, as then the sums are not all.
func (w *Wire) Count() (WireCount, error) {
	buf, control := make([]byte, 1<<16), make([]byte, 256)
	for {
		n, oob, _, from, err := unix.Recvmsg(w.fd, buf, control, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN):
			stats, err := unix.GetsockoptTpacketStats(w.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
			if err != nil {
				return w.seen, fmt.Errorf("PACKET_STATISTICS: %w", err)
			}
			if stats.Drops > 0 {
				return w.seen, fmt.Errorf("packet socket on %s: %d packets were not seen", Underlay, stats.Drops)
			}
			return w.seen, nil
		case err != nil:
			return w.seen, fmt.Errorf("packet socket on %s: %w", Underlay, err)
		}
		if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype != unix.PACKET_OUTGOING {
			received, err := timestamp(control[:oob])
			if err != nil {
				return w.seen, fmt.Errorf("packet socket on %s: %w", Underlay, err)
			}
			w.judge(buf[:n], received)
		}
	}
}

// timestamp is what SO_TIMESTAMPNS adds to a packet: a struct timespec (socket(7)).
func timestamp(control []byte) (time.Time, error) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Time{}, fmt.Errorf("control messages: %w", err)
	}
	for _, m := range messages {
		if m.Header.Level == unix.SOL_SOCKET && m.Header.Type == unix.SO_TIMESTAMPNS {
			var at struct{ Seconds, Nanoseconds int64 }
			_, err := binary.Decode(m.Data, binary.NativeEndian, &at)
			return time.Unix(at.Seconds, at.Nanoseconds), err
		}
	}
	return time.Time{}, errors.New("a packet has no timestamp")
}

// judge counts an Ethernet frame if it holds a UDP datagram to the VXLAN port. Fragments are not expected and not
// counted.
func (w *Wire) judge(frame []byte, received time.Time) {
	const ethernet = 14
	if len(frame) < ethernet {
		return
	}
	packet := frame[ethernet:]
	var src, dst, udp []byte
	switch binary.BigEndian.Uint16(frame[12:]) {
	case unix.ETH_P_IP:
		header := 20
		if len(packet) < header || packet[9] != unix.IPPROTO_UDP {
			return
		}
		header = int(packet[0]&0xf) * 4
		total := int(binary.BigEndian.Uint16(packet[2:]))
		if total > len(packet) || total < header {
			return
		}
		src, dst, udp = packet[12:16], packet[16:20], packet[header:total]
	case unix.ETH_P_IPV6:
		const header = 40
		if len(packet) < header || packet[6] != unix.IPPROTO_UDP {
			return
		}
		total := header + int(binary.BigEndian.Uint16(packet[4:]))
		if total > len(packet) {
			return
		}
		src, dst, udp = packet[8:24], packet[24:40], packet[header:total]
	default:
		return
	}
	if len(udp) < 8 || binary.BigEndian.Uint16(udp[2:]) != w.port {
		return
	}
	w.seen.Packets++
	field := binary.BigEndian.Uint16(udp[6:])
	if field == 0 {
		w.seen.Zero++
		return
	}
	if correct := udpChecksum(src, dst, udp); correct != field {
		addr, _ := netip.AddrFromSlice(src)
		w.seen.Bad = append(w.seen.Bad, BadPacket{
			received, netip.AddrPortFrom(addr, binary.BigEndian.Uint16(udp)),
			field, correct,
		})
	}
}

// udpChecksum is the checksum that the datagram should carry (RFC 768; RFC 8200 section 8.1 for IPv6, whose
// pseudo-header has the same sum). The field itself counts as 0.
func udpChecksum(src, dst, udp []byte) uint16 {
	sum := uint32(unix.IPPROTO_UDP) + uint32(len(udp))
	for _, part := range [][]byte{src, dst, udp[:6], udp[8:]} {
		for ; len(part) > 1; part = part[2:] {
			sum += uint32(binary.BigEndian.Uint16(part))
		}
		if len(part) == 1 {
			sum += uint32(part[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	if c := ^uint16(sum); c != 0 {
		return c
	}
	return 0xffff
}

func htons(v uint16) uint16 { return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)) }

// receiveBuffer sets the size of a socket's receive buffer, or as much of it as net.core.rmem_max allows the root of a
// user namespace.
func receiveBuffer(fd, size int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, size)
	if errors.Is(err, unix.EPERM) {
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, size)
	}
	return err
}
