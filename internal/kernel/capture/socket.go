package capture

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"vxlan_exporter/internal/kernel/rtnl"
)

// Interface is what a Capture needs to know of a network interface.
type Interface struct {
	Index  int
	MTU    int // bytes, without the link-layer header
	Up     bool
	Link   Link
	Counts Counts
}

// Counts are packets that an interface has received and sent.
type Counts struct{ Received, Sent uint64 }

// Socket is what a Capture needs of an AF_PACKET socket.
type Socket interface {
	// Interface looks an interface up by name in the socket's network namespace. The error of one that is not there
	// satisfies fs.ErrNotExist. It may be called from any goroutine.
	Interface(name string) (Interface, error)
	SetFilter(program []bpf.RawInstruction) error
	// Bind makes the socket see what the interface with this index sends and receives.
	Bind(index int) error
	// Receive takes packets from the queue, no more than there are messages, and returns how many; those messages are
	// filled. It never waits: when there is no packet, the error is EAGAIN.
	Receive(into []Message) (n int, err error)
	// Stats returns how many packets have passed the filter since the last call, and how many of them found the queue
	// full.
	Stats() (packets, drops uint32, err error)
	// IgnoreOutgoing switches off or on that the socket sees what is sent.
	IgnoreOutgoing(ignore bool) error
	// Rest is Bind, but the socket sees nothing, and costs the packets of the interface nothing.
	Rest(index int) error
	Close() error
}

// Opener opens a Socket that sees nothing yet.
type Opener func() (Socket, error)

// queueBytes is the receive buffer that is asked for. The kernel charges about 2.3 KiB for a packet of 1500 bytes;
// without CAP_NET_ADMIN it grants no more than net.core.rmem_max.
const queueBytes = 1 << 20

// Open opens an AF_PACKET socket in the network namespace of the calling thread. It needs CAP_NET_RAW.
func Open() (Socket, error) {
	// Protocol 0: nothing arrives before the filter is there and the socket bound (packet(7)).
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("open AF_PACKET socket: %w (needs CAP_NET_RAW)", err)
	case errors.Is(err, unix.EAFNOSUPPORT):
		return nil, fmt.Errorf("open AF_PACKET socket: %w: %w (a kernel without CONFIG_PACKET, or "+
			"RestrictAddressFamilies= without AF_PACKET)", err, errors.ErrUnsupported)
	case err != nil:
		return nil, fmt.Errorf("open AF_PACKET socket: %w", err)
	}
	// Not in non-blocking mode, which would register it with Go's poller: each packet would then wake this process,
	// even while nothing waits (EPOLLET). That was most of the cost.
	s := &packetSocket{file: os.NewFile(uintptr(fd), "packet")}
	if s.raw, err = s.file.SyscallConn(); err == nil {
		err = errors.Join(
			s.option("PACKET_AUXDATA", unix.PACKET_AUXDATA, 1),
			s.option("PACKET_VNET_HDR", unix.PACKET_VNET_HDR, 1),
			s.control(func(fd int) error { return os.NewSyscallError("SO_RCVBUF", setReadBuffer(fd)) }),
		)
	}
	if err == nil {
		s.route, err = rtnl.Dial(context.Background(), nil)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up AF_PACKET socket: %w", err), s.file.Close())
	}
	return s, nil
}

func setReadBuffer(fd int) error {
	if unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, queueBytes) == nil {
		return nil
	}
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, queueBytes)
}

func (s *packetSocket) option(name string, opt, value int) error {
	return s.control(func(fd int) error {
		return os.NewSyscallError(name, unix.SetsockoptInt(fd, unix.SOL_PACKET, opt, value))
	})
}

type packetSocket struct {
	file *os.File
	raw  syscall.RawConn
	// For Receive.
	headers [maxMessages]unix.Mmsghdr
	parts   [maxMessages]messageParts
	// For Interface.
	mu    sync.Mutex
	route *rtnl.Conn
}

func (s *packetSocket) Close() error { return errors.Join(s.file.Close(), s.route.Close()) }

// Interface asks over rtnetlink.
func (s *packetSocket) Interface(name string) (Interface, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	nic, err := s.route.NICByName(name)
	switch {
	case errors.Is(err, fs.ErrNotExist): // whose error names the interface, as the callers do
		return Interface{}, fmt.Errorf("look up the interface: %w: %w", unix.ENODEV, fs.ErrNotExist)
	case err != nil:
		return Interface{}, err
	}
	i := Interface{Index: nic.Index, MTU: int(nic.MTU), Up: nic.Up, Counts: Counts{nic.Received, nic.Sent}}
	switch nic.Type {
	case unix.ARPHRD_ETHER, unix.ARPHRD_LOOPBACK:
		i.Link = Ethernet
	case unix.ARPHRD_NONE, unix.ARPHRD_RAWIP:
		i.Link = RawIP
	default:
		return Interface{}, fmt.Errorf("link layer type %d (ARPHRD_*) is not understood: %w", nic.Type, errors.ErrUnsupported)
	}
	return i, nil
}

func (s *packetSocket) IgnoreOutgoing(ignore bool) error {
	value := 0
	if ignore {
		value = 1
	}
	return s.option("PACKET_IGNORE_OUTGOING", unix.PACKET_IGNORE_OUTGOING, value)
}

func (s *packetSocket) SetFilter(program []bpf.RawInstruction) error {
	code := make([]unix.SockFilter, len(program))
	for i, in := range program {
		code[i] = unix.SockFilter{Code: in.Op, Jt: in.Jt, Jf: in.Jf, K: in.K}
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: unsafe.SliceData(code)}
	return s.control(func(fd int) error {
		return os.NewSyscallError(
			"SO_ATTACH_FILTER",
			unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog),
		)
	})
}

func (s *packetSocket) Bind(index int) error {
	// ETH_P_ALL although only IP is wanted: a handler of one protocol sits in the path of every packet of that protocol on
	// every interface and makes the kernel clone what passes.
	return s.bind(index, unix.ETH_P_ALL)
}

// etherNone is a reserved Ethernet type (RFC 1701, page 4): no packet has it.
const etherNone = 0xffff

func (s *packetSocket) Rest(index int) error {
	// A socket cannot be unbound: protocol 0 stands for the one before (packet_bind, net/packet/af_packet.c).
	return s.bind(index, etherNone)
}

func (s *packetSocket) bind(index int, etherType uint16) error {
	return s.control(func(fd int) error {
		return os.NewSyscallError(
			"bind",
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: networkOrder(etherType), Ifindex: index}),
		)
	})
}

func (s *packetSocket) Stats() (packets, drops uint32, err error) {
	err = s.control(func(fd int) error {
		st, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
		if err == nil {
			packets, drops = st.Packets, st.Drops
		}
		return os.NewSyscallError("getsockopt", err)
	})
	return packets, drops, err
}

func (s *packetSocket) control(f func(fd int) error) error {
	var err error
	if e := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

// networkOrder converts a 16-bit value to network byte order.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16([]byte{byte(v >> 8), byte(v)})
}
