package conntrack

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Socket is a ctnetlink socket. Tests hand the scanner one that a hostile or a recorded kernel speaks through.
type Socket interface {
	// Send sends one request. The kernel walks the table for the first reply already during this call.
	Send(request []byte) error
	// Receive reads one datagram into p and returns its full length, which is larger than len(p) when it was cut off. No
	// reply before the deadline is an error that wraps os.ErrDeadlineExceeded.
	Receive(p []byte) (int, error)
	// SetDeadline bounds Send and Receive.
	SetDeadline(t time.Time) error
	// PortID is the netlink address of the socket, which replies carry.
	PortID() uint32
	Close() error
}

// Opener opens a socket in the network namespace to be read.
type Opener func() (Socket, error)

// Open opens a ctnetlink socket in the network namespace of the calling thread. Opening needs no privilege; the kernel
// refuses the dump itself.
func Open() (Socket, error) {
	// Not Strict: its options fail to set before 4.20, and ctnetlink does not look at them.
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		if errors.Is(err, unix.EPROTONOSUPPORT) {
			err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
		}
		return nil, fmt.Errorf("open nfnetlink socket: %w", err)
	}
	s, err := newSocket(c)
	if cerr := c.Close(); err == nil && cerr != nil {
		err = errors.Join(cerr, s.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("open nfnetlink socket: %w", err)
	}
	return s, nil
}

// receiveTimeout is how long a receive waits before it looks at the deadline. The kernel answers a dump at once, so
// that only a kernel that does not answer is ever waited for.
const receiveTimeout = 50 * time.Millisecond

// socket is a blocking socket of its own. Package netlink makes it (the namespace, the address), but does not read it:
//
//   - its ReceiveIter copies every datagram to a new buffer (ownedBuffer in conn_linux.go, v1.11.2) and allocates closures and an
//     address for every receive, 10 allocations for each 8 KiB of a million entries, and does not tell one receive from the next,
//     which is what is to be timed;
//   - its descriptor is registered with the runtime's poller, which each datagram of a dump wakes up on another CPU, though nobody
//     waits: a tenth of the CPU time of the whole dump.
type socket struct {
	fd       int
	portID   uint32
	deadline atomic.Int64 // Unix time, ns; 0: none
	closed   bool
	from     unix.RawSockaddrNetlink
	fromLen  uint32
}

// newSocket takes the socket out of c, which is then of no more use but to be closed.
func newSocket(c *netlink.Conn) (*socket, error) {
	rc, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var s *socket
	if cerr := rc.Control(func(fd uintptr) { s, err = takeSocket(int(fd)) }); cerr != nil {
		return nil, cerr
	}
	return s, err
}

func takeSocket(fd int) (_ *socket, err error) {
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return nil, fmt.Errorf("getsockname: %w", err)
	}
	nl, ok := sa.(*unix.SockaddrNetlink)
	if !ok {
		return nil, fmt.Errorf("getsockname: got %T, want a netlink address", sa)
	}
	s := &socket{portID: nl.Pid}
	if s.fd, err = unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return nil, fmt.Errorf("duplicate: %w", err)
	}
	defer func() {
		if err != nil {
			unix.Close(s.fd)
		}
	}()
	if err = unix.SetNonblock(s.fd, false); err != nil {
		return nil, fmt.Errorf("set blocking: %w", err)
	}
	tv := unix.NsecToTimeval(int64(receiveTimeout))
	if err = unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return nil, fmt.Errorf("set SO_RCVTIMEO: %w", err)
	}
	return s, nil
}

// Send writes to the kernel, which is where an unconnected netlink socket points (netlink(7)).
func (s *socket) Send(request []byte) error {
	for {
		_, err := unix.Write(s.fd, request)
		if errors.Is(err, unix.EINTR) && !s.late() {
			continue
		}
		if err != nil {
			return fmt.Errorf("send: %w", err)
		}
		return nil
	}
}

// Receive is a bare recvfrom(2): the wrapper in package unix allocates the sender's address. MSG_TRUNC makes it return
// the full length of a datagram that did not fit (recv(2)).
func (s *socket) Receive(p []byte) (int, error) {
	for {
		s.fromLen = unix.SizeofSockaddrNetlink
		n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(s.fd), uintptr(unsafe.Pointer(unsafe.SliceData(p))),
			uintptr(len(p)),
			unix.MSG_TRUNC, uintptr(unsafe.Pointer(&s.from)), uintptr(unsafe.Pointer(&s.fromLen)))
		switch {
		case errno == 0 && s.from.Pid != 0:
			return 0, fmt.Errorf("receive: a message of process %d, not of the kernel", s.from.Pid)
		case errno == 0:
			return int(n), nil
		case errno != unix.EAGAIN && errno != unix.EINTR:
			return 0, fmt.Errorf("receive: %w", errno)
		case s.late():
			return 0, fmt.Errorf("receive: %w", os.ErrDeadlineExceeded)
		}
	}
}

func (s *socket) late() bool {
	d := s.deadline.Load()
	return d != 0 && time.Now().UnixNano() >= d
}

// SetDeadline may be called while another goroutine receives, which then returns within receiveTimeout after t.
func (s *socket) SetDeadline(t time.Time) error {
	s.deadline.Store(t.UnixNano())
	return nil
}

// PortID is what bind(2) assigned.
func (s *socket) PortID() uint32 { return s.portID }

// Close may be called once more than is needed.
func (s *socket) Close() error {
	if s.closed {
		return nil
	}
	s.closed = true
	return unix.Close(s.fd)
}
