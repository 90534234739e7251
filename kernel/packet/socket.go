package packet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"github.com/mdlayher/socket"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Socket is what a Capture needs of an AF_PACKET socket.
type Socket interface {
	// Interface looks an interface up by name in the socket's network namespace.
	Interface(name string) (Interface, error)
	SetFilter(program []bpf.RawInstruction) error
	// Bind makes the socket see what the interface with this index sends and receives.
	Bind(index int) error
	// Receive waits for a packet until the deadline when wait is set, else it fails with EAGAIN when there is none. buf gets a
	// struct virtio_net_hdr and the packet, oob the control messages.
	Receive(buf, oob []byte, wait bool) (n, oobn int, from unix.SockaddrLinklayer, err error)
	SetReadDeadline(t time.Time) error
	// Stats returns how many packets have passed the filter since the last call, and how many of them found the queue full.
	Stats() (packets, drops uint32, err error)
	// IgnoreOutgoing switches off or on that the socket sees what is sent.
	IgnoreOutgoing(ignore bool) error
	// Rest is Bind, but the socket sees nothing, and costs the packets of the interface nothing.
	Rest(index int) error
	// Counts returns how many packets the interface with this index has received and sent.
	Counts(index int) (Counts, error)
	Close() error
}

// Opener opens a Socket that sees nothing yet.
type Opener func() (Socket, error)

// queueBytes is the receive buffer that is asked for. The kernel charges about 2.3 KiB for a packet of 1500 bytes; without
// CAP_NET_ADMIN it grants no more than net.core.rmem_max.
const queueBytes = 1 << 20

// Open opens an AF_PACKET socket in the network namespace of the calling thread. It needs CAP_NET_RAW.
func Open() (Socket, error) {
	// Protocol 0: nothing arrives before the filter is there and the socket bound (packet(7)).
	c, err := socket.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0, "packet", nil)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("open AF_PACKET socket: %w (needs CAP_NET_RAW)", err)
	case errors.Is(err, unix.EAFNOSUPPORT):
		return nil, fmt.Errorf("open AF_PACKET socket: %w: %w (a kernel without CONFIG_PACKET, or RestrictAddressFamilies= without AF_PACKET)",
			err, errors.ErrUnsupported)
	case err != nil:
		return nil, fmt.Errorf("open AF_PACKET socket: %w", err)
	}
	err = errors.Join(
		option(c, "PACKET_AUXDATA", unix.PACKET_AUXDATA),
		option(c, "PACKET_VNET_HDR", unix.PACKET_VNET_HDR),
		c.SetReadBuffer(queueBytes),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up AF_PACKET socket: %w", err), c.Close())
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up AF_PACKET socket: %w", err), c.Close())
	}
	s := &packetSocket{Conn: c, raw: raw}
	// Without it, Counts fails and all else works.
	s.route, s.routeErr = netlink.Dial(unix.NETLINK_ROUTE, nil)
	return s, nil
}

func option(c *socket.Conn, name string, opt int) error {
	if err := c.SetsockoptInt(unix.SOL_PACKET, opt, 1); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

type packetSocket struct {
	*socket.Conn
	raw      syscall.RawConn
	route    *netlink.Conn // nil: routeErr says why
	routeErr error
}

func (s *packetSocket) Close() error {
	err := s.Conn.Close()
	if s.route != nil {
		err = errors.Join(err, s.route.Close())
	}
	return err
}

func (s *packetSocket) IgnoreOutgoing(ignore bool) error {
	value := 0
	if ignore {
		value = 1
	}
	return s.SetsockoptInt(unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, value)
}

func (s *packetSocket) SetFilter(program []bpf.RawInstruction) error { return s.SetBPF(program) }

func (s *packetSocket) Bind(index int) error {
	// ETH_P_ALL although only IP is wanted: a handler of one protocol sits in the path of every packet of that protocol on
	// every interface and makes the kernel clone what passes.
	return s.Conn.Bind(&unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ALL), Ifindex: index})
}

// etherNone is a reserved Ethernet type (RFC 1701, page 4): no packet has it.
const etherNone = 0xffff

func (s *packetSocket) Rest(index int) error {
	// A socket cannot be unbound: protocol 0 stands for the one before (packet_bind, net/packet/af_packet.c).
	return s.Conn.Bind(&unix.SockaddrLinklayer{Protocol: networkOrder(etherNone), Ifindex: index})
}

func (s *packetSocket) Receive(buf, oob []byte, wait bool) (n, oobn int, from unix.SockaddrLinklayer, err error) {
	var sa unix.Sockaddr
	if wait {
		n, oobn, _, sa, err = s.Recvmsg(context.Background(), buf, oob, 0)
	} else {
		err = s.control(func(fd int) (err error) {
			n, oobn, _, sa, err = unix.Recvmsg(fd, buf, oob, unix.MSG_DONTWAIT)
			return err
		})
	}
	if ll, ok := sa.(*unix.SockaddrLinklayer); ok {
		from = *ll
	}
	return n, oobn, from, err
}

func (s *packetSocket) Stats() (packets, drops uint32, err error) {
	st, err := s.GetsockoptTpacketStats(unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return 0, 0, err
	}
	return st.Packets, st.Drops, nil
}

func (s *packetSocket) control(f func(fd int) error) error {
	var err error
	if e := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// networkOrder turns a 16-bit value round for a field in network byte order.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(v >> 8), byte(v)})
}
