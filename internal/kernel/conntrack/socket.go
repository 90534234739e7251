package conntrack

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

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
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if errors.Is(err, unix.EPROTONOSUPPORT) {
		err = fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	if err != nil {
		return nil, fmt.Errorf("open nfnetlink socket: %w", err)
	}
	s := &socket{fd: fd}
	if err := s.bind(); err != nil {
		return nil, errors.Join(fmt.Errorf("open nfnetlink socket: %w", err), s.Close())
	}
	return s, nil
}

// receiveTimeout is how long a receive waits before it looks at the deadline. The kernel answers a dump at once, so
// that only a kernel that does not answer is ever waited for.
const receiveTimeout = 50 * time.Millisecond

// socket is a blocking socket of its own, not one of package netlink:
//
//   - its ReceiveIter copies every datagram to a new buffer (ownedBuffer in conn_linux.go, v1.11.2) and allocates
//     closures and an address for every receive, 10 allocations for each 8 KiB of a million entries, and does not tell
//     one receive from the next, which is what is to be timed;
//   - its descriptor is registered with the runtime's poller, which each datagram of a dump wakes up on another CPU,
//     though nobody waits: a tenth of the CPU time of the whole dump.
type socket struct {
	fd       int
	portID   uint32
	deadline atomic.Int64 // Unix time, ns; 0: none
	from     unix.RawSockaddrNetlink
	fromLen  uint32
}

func (s *socket) bind() error {
	if err := unix.Bind(s.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	sa, err := unix.Getsockname(s.fd)
	if err != nil {
		return fmt.Errorf("getsockname: %w", err)
	}
	if own, ok := sa.(*unix.SockaddrNetlink); ok {
		s.portID = own.Pid
	}
	tv := unix.NsecToTimeval(int64(receiveTimeout))
	if err := unix.SetsockoptTimeval(s.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		return fmt.Errorf("set SO_RCVTIMEO: %w", err)
	}
	return nil
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
		n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(s.fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), unix.MSG_TRUNC,
			uintptr(unsafe.Pointer(&s.from)), uintptr(unsafe.Pointer(&s.fromLen)))
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

func (s *socket) Close() error { return unix.Close(s.fd) }
